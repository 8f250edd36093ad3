import { expect, test } from 'vitest'
import { KEYED, SimDatabase } from './sim-database.ts'

const rewrite = (database: SimDatabase) =>
  database.commit([{ table: KEYED, version: database.shapes.get(KEYED)!.current, changes: [{ kind: 'rewrite', rows: [] }] }])

test('a failover that loses a rewrite leaves those before it', () => {
  const database = new SimDatabase()
  rewrite(database)
  const first = database.endLsn
  const storage = database.storageOf(KEYED)
  rewrite(database)
  expect(database.rewrittenAt(KEYED)).toBe(database.endLsn)

  database.failOver({ lost: 1, slotLsn: null })
  expect(database.rewrittenAt(KEYED)).toBe(first)
  expect(database.storageOf(KEYED)).toBe(storage)
  database.failOver({ lost: 1, slotLsn: null })
  expect(database.rewrittenAt(KEYED)).toBeNull()
})
