import { MoonlinkError, silentLogger, systemClock } from '@moonlink/core'
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

test('what keeps the publication from being looked at is said once, and that it works again', async () => {
  const lost = new MoonlinkError('retry', 'PG_CONNECTION_LOST', 'lost the connection.')
  const bug = new TypeError('no such thing')
  const looks: (Error | null)[] = [lost, lost, bug, null, null, lost]
  const said: string[] = []
  const say = (level: string) => (_: string, fields?: Readonly<Record<string, unknown>>) =>
    void said.push(`${level} ${(fields?.['error'] as string | undefined) ?? ''}`)
  const watch = new PublicationWatch({
    source: {
      publicationChanges: async () => {
        const error = looks.shift()
        if (error) throw error
        return []
      },
    },
    clock: systemClock,
    logger: { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') },
    intervalMs: 1000,
    resync: async () => undefined,
    pause: async () => undefined,
    added: async () => undefined,
  })
  while (looks.length > 0) await (await watch.look()).followed
  expect(said).toEqual([
    'warn lost the connection.',
    'debug lost the connection.',
    expect.stringMatching(/^warn .*no such thing/),
    'info ',
    'warn lost the connection.',
  ])
})
