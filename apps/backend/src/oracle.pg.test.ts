import { withPostgres } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { playScenarios } from './testing/oracle/play.ts'

/**
 * The invariant: at any LSN that is held, a union read equals what Postgres had at that LSN, and each Iceberg snapshot equals what
 * Postgres had at the LSN it carries. Random tables over every type, several sessions, big values, flushes, compaction, kills.
 */
const postgres = withPostgres()

test('reads at held LSNs and Iceberg at rest equal Postgres, across flushes, kills and restarts', { timeout: 36_000_000 }, async () => {
  const total = await playScenarios(5, () => postgres.createDatabase())
  expect(total.reads).toBeGreaterThan(0)
})
