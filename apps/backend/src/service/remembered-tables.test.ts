import { formatTableName } from '@moonlink/core'
import { expect, test } from 'vitest'
import { RememberedTables } from './remembered-tables.ts'
import type { BackendState } from './state.ts'

test('what tables are published like is outdated from when it changes until it is written down', async () => {
  const marks = new Map([['public.a', 'one']])
  const written: BackendState[] = []
  let live = ['public.a', 'public.b']
  const remembered = new RememberedTables({
    store: { write: async (state) => void written.push(state) },
    source: {
      history: { timeline: 1 } as never,
      identity: { systemIdentifier: '1', database: 'd', slot: 's' } as never,
      publicationMark: (table) => marks.get(formatTableName(table)) ?? '',
    },
    state: null,
    mirror: () => undefined,
    live: () => live,
    covered: () => live,
    known: () => ['public.a', 'public.b'],
  })
  await remembered.write(1n)
  const outdated = () => [remembered.isOutdated, ...['public.a', 'public.b'].map((name) => remembered.isOutdatedFor(name))]
  expect(outdated()).toEqual([false, false, false])
  marks.set('public.a', 'two')
  expect(outdated()).toEqual([true, true, false])
  await remembered.write(1n)
  expect(outdated()).toEqual([false, false, false])
  live = []
  marks.set('public.a', 'of one that takes no changes')
  expect(outdated().at(0)).toBe(false)
  expect(written.map(({ published }) => published)).toEqual([{ 'public.a': 'one' }, { 'public.a': 'two' }])
})
