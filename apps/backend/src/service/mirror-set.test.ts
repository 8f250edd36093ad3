import { formatTableName, MoonlinkError, silentLogger, systemClock, systemRandom, type TableName } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { BackendParts } from './backend-parts.ts'
import type { LockedTables } from './locked-tables.ts'
import { MirrorSet } from './mirror-set.ts'
import type { Coverage } from './mirrors.ts'
import type { ListedSourceTable } from './parts.ts'
import { UnopenedTables } from './unopened-tables.ts'

const noneUnopened = () =>
  new UnopenedTables({
    engine: { streamedLsn: 0n },
    log: null,
    maxLogBytes: 0,
    floorLsn: 0n,
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    openAgain: () => Promise.resolve(),
  })

test('a table without a mirror is told of by why it has none, and as unknown only where it is', () => {
  const reasons = new Map([['public.locked', 'its publication waits for a lock']])
  const parts = { engine: { mirror: () => undefined } } as unknown as BackendParts
  const locked = { reasons, has: (name: string) => reasons.has(name) } as unknown as LockedTables
  const mirrors = new MirrorSet(parts, {} as Coverage, locked, noneUnopened())
  mirrors.unopened.refuse('public.damaged', 'FILE_CORRUPT its bytes are not those that were written')
  const trouble = (name: string) => {
    try {
      return mirrors.mirror(name)
    } catch (error) {
      return error
    }
  }
  expect(trouble('public.locked')).toMatchObject({
    kind: 'retry',
    code: 'TABLE_COPYING',
    message: expect.stringContaining('waits for a lock') as string,
  })
  expect(trouble('public.damaged')).toMatchObject({
    kind: 'invalid',
    code: 'TABLE_PAUSED',
    message: expect.stringContaining('FILE_CORRUPT') as string,
  })
  expect(trouble('public.looked')).toMatchObject({
    kind: 'invalid',
    code: 'TABLE_UNKNOWN',
    message: expect.stringContaining('public.locked') as string,
  })
})

/** Mirrors of tables whose Iceberg tables are damaged; `prepare` publishes, and what is `gone` the source has no more. */
async function damagedMirrors(
  names: readonly string[],
  prepare: (names: readonly string[]) => void,
  gone: ReadonlySet<string> = new Set(),
) {
  const damaged = () => Promise.reject(new MoonlinkError('invalid', 'FORMAT_VERSION', 'its metadata is of another version'))
  const refusalOf = (table: TableName) => (gone.has(formatTableName(table)) ? { code: 'TABLE_UNKNOWN', reason: 'it is gone' } : null)
  const parts = {
    engine: { mirror: () => undefined, removeMirror: () => Promise.resolve(), ledger: () => ({}) },
    logger: { error: () => undefined },
    warehouse: { catalog: { load: damaged } },
    source: {
      identity: {},
      listTables: async (tables: readonly TableName[]) => tables.map((table) => ({ table, refusal: refusalOf(table) })),
      prepare: async (tables: readonly TableName[]) => {
        prepare(tables.map(formatTableName))
        return { slotLsn: 0n, locked: [] }
      },
    },
  } as unknown as BackendParts
  const mirrors = new MirrorSet(parts, {} as Coverage, {} as LockedTables, noneUnopened())
  const listed = names.map((name) => ({ table: { schema: 'public', name } }) as ListedSourceTable)
  await mirrors.openStarted(listed, [])
  return mirrors
}

test('a table that is opened anew stays published while another one is seen to', async () => {
  const published: (readonly string[])[] = []
  const mirrors = await damagedMirrors(['a', 'b'], (names) => published.push(names))
  // As while it is opened again, which has just let go of the mirror that it had.
  mirrors.unopened.delete('public.a')
  await mirrors.remove('public.b', false)
  expect(published).toEqual([[], ['public.a']])
})

test('a table that is dropped once it was listed keeps no other from being published', async () => {
  const published: (readonly string[])[] = []
  const gone = new Set<string>()
  const unknown = new MoonlinkError('invalid', 'TABLE_UNKNOWN', 'the database has no table public.a')
  const publish = (names: readonly string[]) => {
    published.push(names)
    if (!names.includes('public.a')) return
    gone.add('public.a')
    throw unknown
  }
  const mirrors = await damagedMirrors(['a', 'b', 'c'], publish, gone)
  for (const name of ['public.a', 'public.b']) mirrors.unopened.delete(name)
  await mirrors.remove('public.c', false)
  expect(published).toEqual([[], ['public.a', 'public.b'], ['public.b']])
  gone.clear()
  mirrors.unopened.delete('public.c')
  // Whatever is said of it.
  gone.has = () => false
  await expect(mirrors.remove('public.c', false)).rejects.toBe(unknown)
})
