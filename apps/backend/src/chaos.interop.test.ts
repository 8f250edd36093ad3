import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ChaosRun, type ChaosOptions } from './testing/chaos/chaos-run.ts'
import { chaosListTables as listTables, chaosSeconds, chaosSeed, keepsChaos } from './testing/chaos/chaos-settings.ts'
import type { ChaosWarehouse } from './testing/chaos/chaos-warehouse.ts'
import { DiskWarehouse } from './testing/chaos/disk-warehouse.ts'
import { RemoteWarehouse } from './testing/chaos/remote-warehouse.ts'
import { readEach, type Reading } from './testing/readers.ts'

const seconds = chaosSeconds(20)
const seed = chaosSeed(7)

const remote: ChaosOptions<ChaosWarehouse>['openWarehouse'] = (place, dice) => RemoteWarehouse.open(place, dice)

test.each<[string, Pick<ChaosOptions<ChaosWarehouse>, 'hasStandby' | 'openWarehouse'>]>([
  ['a REST catalog and S3 that are killed, frozen, cut off and lose answers', { openWarehouse: remote }],
  ['the same, with the change log in S3 and two backends that take over from one another', { openWarehouse: remote, hasStandby: true }],
  ['a directory that is full now and then', { openWarehouse: (place) => DiskWarehouse.open(place) }],
])(
  `with %s, Spark, PyIceberg and DuckDB agree with Postgres (seed ${seed})`,
  { timeout: (seconds * 2 + 400) * 1000 },
  async (_, options) => {
    const directory = mkdtempSync(join(tmpdir(), 'moonlink-chaos-'))
    chmodSync(directory, 0o755)
    const run = new ChaosRun({ directory, seconds, seed, listTables, ...options })
    try {
      await run.start()
      const report = await run.run()
      const { wrong, verified, ...done } = report
      console.log(JSON.stringify(done))
      expect(wrong).toEqual([])
      expect(verified, verified.stdout).toMatchObject({ status: 0 })
      const names = (await run.running.tables()).map(({ name }) => name)
      expect(names).toHaveLength(3 + listTables)
      expect(await run.stop()).toEqual([])
      expect(await run.unlistedFiles(names), 'files that no snapshot needs and nobody knows').toEqual([])
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
