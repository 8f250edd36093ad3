import { withPostgres } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { oracleServerSettings, playScenarios } from './testing/oracle/play.ts'
import { ForeignReaders } from './testing/oracle/readers.ts'

/** The oracle (see `oracle.pg.test.ts`), its Iceberg snapshots read by PyIceberg and DuckDB at the LSNs that they carry. */
const postgres = withPostgres({ settings: oracleServerSettings })

test('PyIceberg and DuckDB read in each snapshot what Postgres had at its LSN', { timeout: 36_000_000 }, async () => {
  const readers: ForeignReaders[] = []
  await playScenarios(3, async () => {
    const { connectionString } = await postgres.createDatabase()
    const reader = new ForeignReaders(connectionString)
    readers.push(reader)
    return { connectionString, onRest: (source, warehouse) => reader.check(source, warehouse) }
  })
  expect(readers.reduce((sum, { compared }) => sum + compared, 0)).toBeGreaterThan(0)
})
