import { withPostgres } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { changeNames } from './testing/oracle/alterations.ts'
import { oracleServerSettings, playScenarios } from './testing/oracle/play.ts'

/**
 * The invariant: at any LSN that is held, a union read equals what Postgres had at that LSN, and each Iceberg snapshot equals what
 * Postgres had at the LSN it carries. Random tables over every type, several sessions, streamed and prepared
 * transactions, big values, flushes, compaction, kills of the mirror and of Postgres; and random changes of schema: columns and rows as they were at each LSN, which is
 * refused only where the table has to be read again, as docs/SCHEMA-CHANGES.md says of each change.
 */
const postgres = withPostgres({ settings: oracleServerSettings })

test('reads at held LSNs and Iceberg at rest equal Postgres, across flushes, kills and restarts', { timeout: 36_000_000 }, async () => {
  const total = await playScenarios(5, () => postgres.createDatabase())
  expect(total.reads).toBeGreaterThan(0)
  expect(total.streamed).toBeGreaterThan(0)
  for (const name of ['truncate', 'prepare', 'touch notes again and again']) expect(total.played.get(name), name).toBeGreaterThan(0)
})

const changesOf = ({ played }: { played: ReadonlyMap<string, number> }) => changeNames.filter((name) => played.has(name))

test('each LSN shows the schema of its time, where event triggers tell of changes', { timeout: 36_000_000 }, async () => {
  const total = await playScenarios(1, () => postgres.createDatabase(), 'told')
  expect(total.reads).toBeGreaterThan(0)
  expect(changesOf(total).length).toBeGreaterThan(0)
})

test(
  'without event triggers, only LSNs around changes that have to be compared are refused, and none is shown wrong',
  { timeout: 36_000_000 },
  async () => {
    const total = await playScenarios(1, () => postgres.createDatabase(), 'found')
    expect(total.reads).toBeGreaterThan(0)
    expect(changesOf(total).length).toBeGreaterThan(0)
  },
)
