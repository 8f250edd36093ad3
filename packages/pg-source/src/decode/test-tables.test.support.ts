import { assert, ChangeOp, valueAt, type ChangeBatch, type ColumnBatch, type SourceEvent, type Value } from '@moonlink/core'
import { mapColumn } from '../types/index.ts'
import type { MirroredTable } from './mirrored-table.ts'
import type { ColumnSpec } from './reference-encoder.test.support.ts'

const arrayElements: Readonly<Record<number, number>> = { 1007: 23, 1009: 25, 1231: 1700 }

/** A mirrored table whose key is the columns flagged so. */
export function mirror(name: string, specs: readonly ColumnSpec[], extra: Partial<MirroredTable> = {}): MirroredTable {
  const table = { schema: 'public', name }
  const columns = specs.map((spec, index) => {
    const elementOid = arrayElements[spec.oid] ?? 0
    return mapColumn(table, {
      name: spec.name,
      number: index + 1,
      typeOid: spec.oid,
      typmod: spec.typmod ?? -1,
      typeName: 'x',
      typtype: 'b',
      elementOid,
      elementTyptype: elementOid === 0 ? null : 'b',
      dimensions: 0,
      required: spec.isKey === true,
    })
  })
  const identifierFieldIds = specs.flatMap((spec, index) => (spec.isKey ? [index + 1] : []))
  return { table, columns, schema: { fields: columns.map((column) => column.field), identifierFieldIds }, ...extra }
}

export function rowsOf(batch: ColumnBatch): Value[][] {
  return Array.from({ length: batch.length }, (_, row) => batch.columns.map((column) => valueAt(column, row)))
}

const names = new Map(Object.entries(ChangeOp).map(([name, op]) => [op as number, name]))

/** A batch in a form that `toEqual` prints well. */
export function plain(batch: ChangeBatch) {
  return {
    ops: [...batch.ops].map((op) => names.get(op)),
    rows: rowsOf(batch.rows),
    old: rowsOf(batch.old),
    unchanged: batch.unchanged.map(({ column, rows }) => ({ column, rows: [...rows] })),
    endLsns: batch.marks.endLsns,
    changeCounts: batch.marks.changeCounts,
  }
}

export function onlyBatch(events: readonly SourceEvent[]): ReturnType<typeof plain> {
  const batches = events.filter((event) => event.kind === 'batch')
  assert(batches.length === 1, 'one batch was taken', { kinds: events.map((event) => event.kind) })
  return plain(batches[0].batch)
}
