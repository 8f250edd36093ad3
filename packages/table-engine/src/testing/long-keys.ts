import { appendValue, BatchBuilder, ChangeOp, type ChangeBatch, type Lsn, type TableSchema } from '@moonlink/core'

/** A table of nothing but keys, for what many rows do. */
export const longKeys = { schema: 'public', name: 't' }
export const longKeysSchema: TableSchema = {
  fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }],
  identifierFieldIds: [1],
}

/** `count` keys from `first` on, as one transaction that ends at `endLsn`. */
export function insertedKeys(first: number, count: number, endLsn: Lsn): ChangeBatch {
  const rows = new BatchBuilder(longKeysSchema.fields, count)
  for (let row = 0; row < count; row++) appendValue(rows.builders[0], BigInt(first + row))
  const old = new BatchBuilder(longKeysSchema.fields).view()
  const marks = { endLsns: [endLsn], changeCounts: [count], commitTimesMs: [0] }
  return { table: longKeys, ops: new Uint8Array(count).fill(ChangeOp.insert), rows: rows.view(), old, unchanged: [], marks }
}
