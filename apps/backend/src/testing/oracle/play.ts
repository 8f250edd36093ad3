import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { scenarios, type SchemaChanges } from './commands.ts'
import { playScenario, type RunOptions, type RunReport } from './run.ts'

const setting = (name: string) => process.env[`MOONLINK_ORACLE_${name}`]

/** A server that streams transactions as early as one can, and lets them be prepared. */
export const oracleServerSettings = { logical_decoding_work_mem: '64kB', max_prepared_transactions: '20' }

const CI_SEED = 20_261_125

/**
 * Plays random scenarios: `runs` of them, or what `MOONLINK_ORACLE_RUNS` says. A failure prints the seed and path that
 * `MOONLINK_ORACLE_SEED` and `MOONLINK_ORACLE_PATH` play again, and leaves a directory with the statements and the backend's state.
 */
export async function playScenarios(
  runs: number,
  prepare: () => Promise<Omit<RunOptions, 'directory'>>,
  schemaChanges: SchemaChanges = 'none',
): Promise<RunReport> {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-oracle-'))
  let played = 0
  const total = { commits: 0, reads: 0, refused: 0, snapshots: 0, streamed: 0 }
  const counts = new Map<string, number>()
  const [seed, path] = [setting('SEED'), setting('PATH')]
  await fc.assert(
    fc.asyncProperty(scenarios(schemaChanges), async (scenario) => {
      const report = await playScenario(scenario, { ...(await prepare()), directory: join(directory, `run-${played++}`) })
      for (const key of ['commits', 'reads', 'refused', 'snapshots', 'streamed'] as const) total[key] += report[key]
      for (const [name, count] of report.played) counts.set(name, (counts.get(name) ?? 0) + count)
    }),
    {
      numRuns: Number(setting('RUNS') ?? runs),
      endOnFailure: true,
      // In CI always the same, so that a change does not fail for what it did not bring.
      ...(seed !== undefined ? { seed: Number(seed) } : process.env['CI'] === undefined ? {} : { seed: CI_SEED }),
      ...(path === undefined ? {} : { path }),
    },
  )
  rmSync(directory, { recursive: true, force: true })
  console.log(
    `oracle: ${played} scenarios, ${total.commits} commits (${total.streamed} streamed), ${total.reads} reads and ${total.snapshots} snapshots compared, ${total.refused} reads refused`,
  )
  console.log(`oracle: ${Array.from(counts, ([name, count]) => `${name} ${count}`).join(', ')}`)
  return { ...total, played: counts }
}
