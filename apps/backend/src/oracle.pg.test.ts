import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { scenarioArbitrary } from './testing/oracle/commands.ts'
import { playScenario } from './testing/oracle/run.ts'

/**
 * The invariant: at any LSN that is held, a union read equals what Postgres had at that LSN, and each Iceberg snapshot equals what
 * Postgres had at the LSN it carries. Random tables over every type, several sessions, big values, flushes, compaction, kills.
 *
 * `MOONLINK_ORACLE_RUNS` sets how many scenarios are played; a failure prints the seed and path that `MOONLINK_ORACLE_SEED` and
 * `MOONLINK_ORACLE_PATH` play again.
 */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-oracle-'))
let isKept = false
afterAll(() => isKept || rmSync(directory, { recursive: true, force: true }))

const setting = (name: string) => process.env[`MOONLINK_ORACLE_${name}`]

test('reads at held LSNs and Iceberg at rest equal Postgres, across flushes, kills and restarts', { timeout: 36_000_000 }, async () => {
  let runs = 0
  const total = { commits: 0, reads: 0, snapshots: 0 }
  const [seed, path] = [setting('SEED'), setting('PATH')]
  try {
    await fc.assert(
      fc.asyncProperty(scenarioArbitrary, async (scenario) => {
        const { connectionString } = await postgres.createDatabase()
        const report = await playScenario(scenario, { connectionString, directory: join(directory, `run-${runs++}`) })
        for (const key of ['commits', 'reads', 'snapshots'] as const) total[key] += report[key]
      }),
      {
        numRuns: Number(setting('RUNS') ?? 5),
        endOnFailure: true,
        ...(seed === undefined ? {} : { seed: Number(seed) }),
        ...(path === undefined ? {} : { path }),
      },
    )
  } catch (error) {
    isKept = true
    throw error
  }
  console.log(`oracle: ${runs} scenarios, ${total.commits} commits, ${total.reads} reads and ${total.snapshots} snapshots compared`)
  expect(total.reads).toBeGreaterThan(0)
})
