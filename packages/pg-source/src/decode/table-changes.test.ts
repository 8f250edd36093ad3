import { ChangeOp, type Field } from '@moonlink/core'
import { expect, test } from 'vitest'
import { BusyTables, TableChanges } from './table-changes.ts'

const fields: Field[] = [{ id: 1, name: 'name', type: { kind: 'string' }, required: false }]

const VALUE = Buffer.from('a'.repeat(100))

/** One batch of a table, large enough that an idle one would not keep its buffers. */
function change(table: TableChanges, rows = 1000) {
  for (let row = 0; row < rows; row++) {
    table.current.rows.builders[0].appendBytes(VALUE, 0, VALUE.length)
    table.current.complete(ChangeOp.insert, 1, 0)
  }
  const full = table.swap()!
  table.giveBack(full)
  return full
}

test('a busy table takes the buffers of its last batch again; one that became idle lets go of them', () => {
  const busy = new BusyTables()
  const tableOf = (name: string) => new TableChanges({ schema: 'public', name }, fields, [], busy)
  const table = tableOf('t')
  const [first, second] = [change(table), change(table)]
  expect(change(table)).toBe(first)
  expect(change(table)).toBe(second)
  expect(table.current).toBe(first)
  expect(first.byteSize).toBeGreaterThan(100_000)

  for (let other = 0; other < 8; other++) change(tableOf(`other${other}`))
  expect(table.current.byteSize).toBeLessThan(10_000)
  expect([first, second]).not.toContain(change(table))
})

test('buffers of a very large batch are not kept', () => {
  const table = new TableChanges({ schema: 'public', name: 't' }, fields, [], new BusyTables())
  const large = change(table, 10_000)
  change(table)
  expect(table.current).not.toBe(large)
  expect(change(table)).not.toBe(large)
})
