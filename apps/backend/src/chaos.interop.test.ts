import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ChaosRun } from './testing/chaos/chaos-run.ts'
import { chaosSeconds, chaosSeed, keepsChaos } from './testing/chaos/chaos-settings.ts'
import { fileIo, RemoteWarehouse, s3Credentials } from './testing/chaos/remote-warehouse.ts'
import { readEach, type Reading } from './testing/readers.ts'

const seconds = chaosSeconds(20)
const seed = chaosSeed(7)
const { accessKey, region, secretKey } = s3Credentials

test(
  `with a REST catalog and S3 that are killed, frozen, cut off and lose answers, Spark, PyIceberg and DuckDB agree with Postgres (seed ${seed})`,
  { timeout: (seconds * 2 + 400) * 1000 },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'moonlink-chaos-'))
    chmodSync(directory, 0o755)
    const run = new ChaosRun({ directory, seconds, seed, openWarehouse: (place, dice) => RemoteWarehouse.open(place, dice) })
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
async function readEverywhere(run: ChaosRun<RemoteWarehouse>, directory: string, names: readonly string[]) {
  const { catalogUri, storeUri } = run.warehouse
  const metadata = await Promise.all(
    names.map(async (table) => {
      const [namespace, name] = table.split('.')
      const loaded = (await (await fetch(`${catalogUri}/v1/namespaces/${namespace}/tables/${name}`)).json()) as { metadata: unknown }
      const file = join(directory, `${table}.json`)
      writeFileSync(file, JSON.stringify(loaded.metadata))
      return file
    }),
  )
  const source = await readEach(
    'pg_read',
    names.map((name, index) => ['--dsn', run.connectionString, '--schema-from', metadata[index], name]),
  )
  const ofCatalog = (properties: Readonly<Record<string, string>>) => {
    const props = Object.entries(properties).flatMap(([key, value]) => ['--prop', `${key}=${value}`])
    return names.map((name) => ['--uri', catalogUri, ...props, name])
  }
  const io = fileIo(storeUri)
  const found: Record<string, readonly Reading[]> = {
    PyIceberg: await readEach('pyiceberg_read', ofCatalog({ ...io, 's3.region': region })),
    DuckDB: await readEach(
      'duckdb_read',
      metadata.map((file) => ['--metadata', file]),
      duckdbWithS3(storeUri),
    ),
    Spark: await readEach('spark_read', ofCatalog({ ...io, 'io-impl': 'org.apache.iceberg.aws.s3.S3FileIO' })),
  }
  return { expected: source.map(({ checksum, row_count }) => ({ checksum, row_count })), found }
}

/** Python that lets DuckDB's connections reach the store. */
function duckdbWithS3(storeUri: string): string {
  const secret = `TYPE s3, KEY_ID '${accessKey}', SECRET '${secretKey}', REGION '${region}', ENDPOINT '${new URL(storeUri).host}', URL_STYLE 'path', USE_SSL false`
  return `
import duckdb, duckdb_extension_httpfs, os
plain = duckdb.connect
def connect(*args, **kwargs):
    connection = plain(*args, **kwargs)
    directory = os.path.dirname(duckdb_extension_httpfs.__file__)
    connection.execute(f"LOAD '{directory}/extensions/v{duckdb.__version__}/httpfs.duckdb_extension'")
    connection.execute("CREATE SECRET (${secret})")
    return connection
duckdb.connect = connect
`
}
