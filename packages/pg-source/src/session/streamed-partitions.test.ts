import { expect, test } from 'vitest'
import type { PartitionRow } from './catalog-rows.ts'
import { StreamedPartitions } from './streamed-partitions.ts'

const NAME = 'public.t'
const table = { schema: 'public', name: 't' }
const partition = (oid: number, changes: Partial<PartitionRow> = {}): PartitionRow => ({
  oid,
  schema: 'public',
  name: `p${oid}`,
  kind: 'r',
  persistence: 'p',
  replicaIdentity: 'd',
  fileNode: oid,
  changedBy: 1,
  attachment: '1',
  isAttached: false,
  rowsToldBy: null,
  identity: ['id'],
  ...changes,
})

/** What is told of a table, and a look at it that sees the partitions. */
function tell() {
  const told = new StreamedPartitions()
  let position = 0n
  told.position = () => position
  const look = (lsn: bigint, now: readonly PartitionRow[], { came = [] as number[], refiled = [] as PartitionRow[] } = {}) =>
    told.judge(NAME, { now, came: new Set(came), refiled, lsn })
  const at = (lsn: bigint) => void (position = lsn)
  return { told, look, at }
}

test('rows of a partition that is gone are noticed also where the stream lags behind the look', () => {
  const { at, look, told } = tell()
  expect(look(100n, [])).toBeNull()
  at(50n)
  told.carried(table, 7, 50n)
  told.carried(table, 7, 160n)
  expect(look(200n, [])).toBe('a partition that is gone had rows')
  expect(look(300n, [])).toBe('a partition that is gone had rows')
  told.copied(NAME, 310n)
  expect(look(400n, [])).toBeNull()
  // What the copy has already.
  told.carried(table, 8, 305n)
  expect(look(400n, [])).toBeNull()
})

test('a partition whose rows came after the look is looked at the next time', () => {
  const { look, told } = tell()
  told.carried(table, 7, 150n)
  expect(look(100n, [])).toBeNull()
  expect(look(200n, [partition(7)], { came: [7] })).toBe('partition public.p7 came, and had rows that are gone')
  expect(look(300n, [])).toBe('a partition that is gone had rows')
})

test('a partition that came empty, and had rows before that, is noticed when the stream comes there; until then no later process is told of it', () => {
  const { at, look, told } = tell()
  at(50n)
  const seven = partition(7)
  expect(look(100n, [seven], { came: [7] })).toBeNull()
  expect(told.unsettled(NAME, [seven])).toEqual({ gone: [], unsure: new Set([7]) })
  told.carried(table, 7, 90n)
  at(95n)
  expect(look(200n, [seven])).toBe('partition public.p7 came, and had rows that are gone')
  at(250n)
  // It may be dropped before the next look: what is kept then must not be what a later process finds.
  expect(told.unsettled(NAME, [seven])).toEqual({ gone: [7], unsure: new Set([7]) })
  told.copied(NAME, 300n)
  expect(told.unsettled(NAME, [seven])).toEqual({ gone: [], unsure: new Set() })

  expect(look(400n, [seven, partition(8)], { came: [8] })).toBeNull()
  told.carried(table, 8, 450n)
  at(460n)
  expect(look(500n, [seven, partition(8)])).toBeNull()
  expect(told.unsettled(NAME, [seven, partition(8)])).toEqual({ gone: [], unsure: new Set() })
  told.carried(table, 9, 600n)
  expect(told.unsettled(NAME, [seven, partition(8)])).toEqual({ gone: [9], unsure: new Set() })
})

test('another file of a partition is judged once the stream is where it was seen', () => {
  const { at, look, told } = tell()
  const truncated = partition(7, { fileNode: 70, changedBy: 33 })
  at(50n)
  expect(look(100n, [truncated], { refiled: [truncated] })).toBeUndefined()
  at(99n)
  expect(look(200n, [truncated], { refiled: [truncated] })).toBeUndefined()
  told.emptied(table, 33)
  expect(look(201n, [truncated], { refiled: [truncated] })).toBeNull()

  const again = partition(7, { fileNode: 71, changedBy: 34 })
  const both = { refiled: [again, partition(8, { fileNode: 80, changedBy: 33 })] }
  expect(look(300n, both.refiled, both)).toBeUndefined()
  at(300n)
  expect(look(400n, both.refiled, both)).toBe('partition public.p7 was truncated or rewritten by itself')
  // Where nothing is streamed, nothing is waited for.
  const other = new StreamedPartitions()
  expect(other.judge(NAME, { now: [again], came: new Set(), refiled: [again], lsn: 1n })).toMatch('rewritten by itself')
})
