import { expect, test } from 'vitest'
import { transferList } from './transfer-list.ts'

test('the memory of columns is moved, and that of the defaults in their schema is not', () => {
  const values = new Uint8Array(16)
  const field = {
    id: 1,
    name: 'u',
    type: { kind: 'uuid' },
    required: false,
    initialDefault: new Uint8Array(16),
    writeDefault: new Uint8Array(16),
  }
  const column = {
    type: { kind: 'struct', fields: [field] },
    length: 1,
    values,
    children: [{ type: field.type, values: values.subarray(8) }],
  }
  expect(transferList({ fields: [field], columns: [column] })).toEqual([values.buffer])
})
