import { appendValue, BatchBuilder, ChangeOp, type ChangeBatch, type Lsn, type TableName, type TableSchema } from '@moonlink/core'

/** A table whose rows take some memory. */
export const notesSchema: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'note', type: { kind: 'string' }, required: false },
  ],
  identifierFieldIds: [1],
}

/** `count` rows from `first` on, of a transaction that ends at `endLsn`; null: of one that is open. */
export function insertedNotes(table: TableName, first: number, count: number, endLsn: Lsn | null): ChangeBatch {
  const rows = new BatchBuilder(notesSchema.fields, count)
  for (let row = 0; row < count; row++) {
    appendValue(rows.builders[0], BigInt(first + row))
    appendValue(rows.builders[1], `a note of some length about row ${first + row}`)
  }
  const old = new BatchBuilder([notesSchema.fields[0]]).view()
  const marks =
    endLsn === null
      ? { endLsns: [], changeCounts: [], commitTimesMs: [] }
      : { endLsns: [endLsn], changeCounts: [count], commitTimesMs: [0] }
  return { table, ops: new Uint8Array(count).fill(ChangeOp.insert), rows: rows.view(), old, unchanged: [], marks }
}
