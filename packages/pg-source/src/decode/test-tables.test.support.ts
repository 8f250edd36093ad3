import { assert, ChangeOp, valueAt, type ChangeBatch, type ColumnBatch, type SourceEvent, type Value } from '@moonlink/core'
import { mapColumn } from '../types/index.ts'
import { arrayOf, builtIn, sourceColumn } from '../types/source-types.test.support.ts'
import type { MirroredTable } from './mirrored-table.ts'
import type { ColumnSpec } from './reference-encoder.test.support.ts'

const arrayElements: Readonly<Record<number, number>> = { 1007: 23, 1009: 25, 1231: 1700 }

/** A mirrored table whose key is the columns flagged so. */
export function mirror(name: string, specs: readonly ColumnSpec[], extra: Partial<MirroredTable> = {}): MirroredTable {
  const table = { schema: 'public', name }
  const columns = specs.map((spec, index) => {
    const elementOid = arrayElements[spec.oid]
    const type = elementOid === undefined ? builtIn(spec.oid) : arrayOf(builtIn(elementOid), spec.oid)
    const isKey = spec.isKey === true
    return mapColumn(
      table,
      sourceColumn(type, { name: spec.name, number: index + 1, typmod: spec.typmod ?? -1, typeName: 'x', required: isKey, isKey }),
    )
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
