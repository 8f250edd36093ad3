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

test('a table that is opened anew stays published while another one is seen to', async () => {
  const published: string[][] = []
  const damaged = () => Promise.reject(new MoonlinkError('invalid', 'FORMAT_VERSION', 'its metadata is of another version'))
  const parts = {
    engine: { mirror: () => undefined, removeMirror: () => Promise.resolve(), ledger: () => ({}) },
    logger: { error: () => undefined },
    warehouse: { catalog: { load: damaged } },
    source: {
      identity: {},
      listTables: (tables: readonly TableName[]) => Promise.resolve(tables.map((table) => ({ table, refusal: null }))),
      prepare: (tables: readonly TableName[]) => {
        published.push(tables.map(formatTableName))
        return Promise.resolve({ slotLsn: 0n, locked: [] })
      },
    },
  } as unknown as BackendParts
  const mirrors = new MirrorSet(parts, {} as Coverage, {} as LockedTables, noneUnopened())
  const listed = ['a', 'b'].map((name) => ({ table: { schema: 'public', name } }) as ListedSourceTable)
  await mirrors.openStarted(listed, [])
  // As while it is opened again, which has just let go of the mirror that it had.
  mirrors.unopened.delete('public.a')
  await mirrors.remove('public.b', false)
  expect(published).toEqual([[], ['public.a']])
})
