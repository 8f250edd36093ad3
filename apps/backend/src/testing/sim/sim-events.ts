import { BatchBuilder, ChangeOp, type ChangeBatch, type Lsn, type SourceEvent, type TableShape } from '@moonlink/core'
import type { SimChange, SimDatabase, SimPart, SimTransaction } from './sim-database.ts'
import type { SimFollowed } from './sim-followed.ts'
import { appendRow, fieldIdsOf, tableNameOf } from './sim-rows.ts'

/**
 * A transaction's changes of one table: a batch ends within it where something else happens, and now and then anywhere. Of what no row tells, event triggers do: so it is known in its place,
 * unless it is older than what the stream follows.
 */
export function* eventsOfPart(
  { changes, table: name, version: before }: SimPart,
  database: SimDatabase,
  followed: SimFollowed,
  { beginLsn, endLsn }: SimTransaction,
): Generator<SourceEvent> {
  const table = tableNameOf(name)
  const isRemade = changes.some(({ kind }) => kind === 'drop' || kind === 'create')
  if (isRemade && followed.isPast(name, endLsn)) return
  // Not every source knows a position of a transaction before its end.
  const openLsn = endLsn % 3n === 0n ? undefined : beginLsn
  let version = before
  let rows: SimChange[] = []
  const shape = (): TableShape => database.shapes.get(name)!.at(version!)
  const batch = (mark: Lsn | null): SourceEvent => {
    const taken = rows
    rows = []
    return { kind: 'batch', batch: { ...changeBatch(name, shape(), taken, mark), openLsn: mark === null ? openLsn : undefined } }
  }
  for (const change of changes) {
    if (change.kind === 'create') version = change.version
    if (!followed.has(name, version)) {
      if (change.kind !== 'drop' && followed.ends(name, endLsn))
        yield { kind: 'unmirrorable', table, code: 'SCHEMA_CHANGED', reason: 'it is another table' }
      continue
    }
    if (change.kind === 'create') continue
    if (change.kind === 'insert' || change.kind === 'update' || change.kind === 'delete') {
      rows.push(change)
      if (rows.length === 3 && endLsn % 2n === 0n) yield batch(null)
      continue
    }
    if (rows.length > 0) yield batch(null)
    if (change.kind === 'truncate') yield { kind: 'truncate', tables: [table], openLsn }
    else if (change.kind === 'reshape') {
      version = change.version
      yield { kind: 'schema', table, shape: shape(), openLsn }
    } else if (change.kind === 'rewrite')
      yield { kind: 'recopy', table, code: 'SCHEMA_CHANGED', reason: `rows were rewritten before ${endLsn}`, openLsn }
    else if (followed.ends(name, endLsn))
      yield { kind: 'unmirrorable', table, code: 'TABLE_DROPPED', reason: `it was dropped before ${endLsn}`, openLsn }
  }
  if (changes.length > 0 && followed.has(name, version)) yield batch(endLsn)
}

function changeBatch(name: string, { schema }: TableShape, changes: readonly SimChange[], endLsn: Lsn | null): ChangeBatch {
  const { key } = fieldIdsOf(schema)
  const isKeyless = schema.identifierFieldIds.length === 0
  const rows = new BatchBuilder(schema.fields)
  const old = new BatchBuilder(isKeyless ? schema.fields : [schema.fields[0]])
  const ops = changes.map((change) => {
    if (change.kind === 'insert' || change.kind === 'update') appendRow(rows, change.row)
    if (change.kind === 'insert') return ChangeOp.insert
    if (change.kind !== 'update' && change.kind !== 'delete') throw new Error('only changes of rows are in a batch')
    if (change.kind === 'update' && !isKeyless && change.row[key] === change.old[key]) return ChangeOp.update
    appendRow(old, change.old)
    return change.kind === 'update' ? ChangeOp.updateOld : ChangeOp.delete
  })
  const marks =
    endLsn === null
      ? { endLsns: [], changeCounts: [], commitTimesMs: [] }
      : { endLsns: [endLsn], changeCounts: [ops.length], commitTimesMs: [0] }
  return { table: tableNameOf(name), ops: Uint8Array.from(ops), rows: rows.view(), old: old.view(), unchanged: [], marks }
}
