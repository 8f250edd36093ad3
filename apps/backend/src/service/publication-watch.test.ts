import { silentLogger, systemClock } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { PublicationChange } from './parts.ts'
import { PublicationWatch } from './publication-watch.ts'

const table = (name: string) => ({ schema: 'public', name })

test('each change is followed in its way, and one that fails keeps no other from it', async () => {
  const done: string[] = []
  const changes: PublicationChange[] = [
    { kind: 'changed', table: table('a'), reason: 'why' },
    { kind: 'refused', table: table('b'), code: 'TABLE_UNPUBLISHED', reason: 'gone' },
    { kind: 'added', table: table('c') },
    { kind: 'added', table: table('d') },
  ]
  const warned: unknown[] = []
  const watch = new PublicationWatch({
    source: { publicationChanges: async () => changes },
    clock: systemClock,
    logger: { ...silentLogger, warn: (_, fields) => void warned.push(fields) },
    intervalMs: 1000,
    resync: async (name, reason) => void done.push(`resync ${name}: ${reason}`),
    pause: async (name, code, reason) => void done.push(`pause ${name}: ${code} ${reason}`),
    added: async (name) => {
      if (name === 'public.c') throw new Error('no key')
      done.push(`added ${name}`)
    },
  })
  await (
    await watch.look()
  ).followed
  expect(done).toEqual(['pause public.b: TABLE_UNPUBLISHED gone', 'resync public.a: why', 'added public.d'])
  expect(warned).toMatchObject([{ table: 'public.c', change: 'added' }])
})
