import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { ChaosRun } from './testing/chaos/chaos-run.ts'
import { read } from './testing/readers.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-chaos-'))
chmodSync(directory, 0o755)
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test(
  'after kills, cuts, a full disk and changes of schema, Spark, PyIceberg and DuckDB agree with Postgres',
  { timeout: 600_000 },
  async () => {
    const run = new ChaosRun({ directory, seconds: Number(process.env['MOONLINK_CHAOS_SECONDS'] ?? 20), seed: 7 })
    try {
      await run.start()
      expect((await run.run()).wrong).toEqual([])
      for (const { name, metadataLocation } of await run.running.tables()) {
        const source = await read('pg_read', ['--dsn', run.connectionString, '--schema-from', metadataLocation, name])
        const expected = { row_count: source.row_count, checksum: source.checksum }
        for (const reader of ['pyiceberg_read', 'duckdb_read', 'spark_read'] as const)
          expect(await read(reader, ['--metadata', metadataLocation]), `${reader} of ${name}`).toMatchObject(expected)
      }
    } finally {
      await run.close()
    }
  },
)
