import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ChaosRun, type ChaosOptions } from './testing/chaos/chaos-run.ts'
import { chaosSeconds, chaosSeed, keepsChaos } from './testing/chaos/chaos-settings.ts'
import type { ChaosWarehouse } from './testing/chaos/chaos-warehouse.ts'
import { DiskWarehouse } from './testing/chaos/disk-warehouse.ts'
import { RemoteWarehouse } from './testing/chaos/remote-warehouse.ts'
import { readEach, type Reading } from './testing/readers.ts'

const seconds = chaosSeconds(20)
const seed = chaosSeed(7)

test.each<[string, ChaosOptions<ChaosWarehouse>['openWarehouse']]>([
  ['a REST catalog and S3 that are killed, frozen, cut off and lose answers', (place, dice) => RemoteWarehouse.open(place, dice)],
  ['a directory that is full now and then', (place) => DiskWarehouse.open(place)],
])(
  `with %s, Spark, PyIceberg and DuckDB agree with Postgres (seed ${seed})`,
  { timeout: (seconds * 2 + 400) * 1000 },
  async (_, openWarehouse) => {
    const directory = mkdtempSync(join(tmpdir(), 'moonlink-chaos-'))
    chmodSync(directory, 0o755)
    const run = new ChaosRun({ directory, seconds, seed, openWarehouse })
    try {
      await run.start()
      const report = await run.run()
      const { failedStarts, faults, reads, transactions } = report
      console.log(JSON.stringify({ faults, failedStarts, transactions, reads }))
      expect(report.wrong).toEqual([])
      expect(report.verified, report.verified.stdout).toMatchObject({ status: 0 })
      const names = (await run.running.tables()).map(({ name }) => name)
      expect(names).toHaveLength(4)
      expect(await run.running.stop()).toBe(0)
      const { expected, found } = await readEverywhere(run, directory, names)
      for (const [reader, readings] of Object.entries(found)) expect(readings, reader).toMatchObject(expected)
    } finally {
      await run.close()
      if (keepsChaos) console.log(`kept: ${directory}`)
      else rmSync(directory, { recursive: true, force: true })
    }
  },
)

/** What Postgres has, and what each reader finds in the tables once nothing changes them any more. */
async function readEverywhere(run: ChaosRun<ChaosWarehouse>, directory: string, names: readonly string[]) {
  const { duckdbPrelude, metadata, pyiceberg, spark } = await run.warehouse.access(names, directory)
  const source = await readEach(
    'pg_read',
    names.map((name, index) => ['--dsn', run.connectionString, '--schema-from', metadata[index], name]),
  )
  const found: Record<string, readonly Reading[]> = {
    PyIceberg: await readEach('pyiceberg_read', pyiceberg),
    DuckDB: await readEach(
      'duckdb_read',
      metadata.map((file) => ['--metadata', file]),
      duckdbPrelude,
    ),
    Spark: await readEach('spark_read', spark),
  }
  return { expected: source.map(({ checksum, row_count }) => ({ checksum, row_count })), found }
}
