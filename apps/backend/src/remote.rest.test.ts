import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, describe, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { s3Environment, serverSetting } from './testing/s3-environment.ts'

/** Warehouses and catalogs that are servers: S3 with the catalog in it, and a REST catalog. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-remote-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const { bucket, env: s3 } = s3Environment()
const prefix = `s3://${bucket}/moonlink-${randomBytes(4).toString('hex')}`

const rest = ['--set', 'catalog.kind=rest', '--set', `catalog.uri=${serverSetting('MOONLINK_TEST_REST_URI')}`]
// The catalog writes metadata itself: to S3 only where it was started with that store.
const restWarehouse = process.env['MOONLINK_TEST_REST_S3'] ? `${prefix}/rest` : join(directory, 'rest')

describe.each([
  ['S3', ['--warehouse', `${prefix}/alone`], s3],
  ['REST', ['--warehouse', restWarehouse, ...rest], s3],
])('%s', (kind, flags, env) => {
  test('follows, restarts and reads from its cache', async () => {
    const { client, connectionString } = await postgres.createDatabase()
    const schema = `remote_${randomBytes(4).toString('hex')}`
    const table = `${schema}.orders`
    await client.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${table} (id bigint PRIMARY KEY, note text)`)
    await client.query(`INSERT INTO ${table} SELECT i, md5(i::text) FROM generate_series(1, 5000) i`)
    const stateDir = join(directory, kind)
    const args = ['--source', connectionString, '--state-dir', stateDir, ...flags]
    const sum = `count(*) AS n, md5(string_agg(id || note, ',' ORDER BY id)) AS sum`
    const expectEqual = async () => {
      const { rows } = await client.query<{ n: string; sum: string }>(`SELECT ${sum} FROM ${table}`)
      await backend.wait({ iceberg: true })
      expect(await backend.query(`SELECT ${sum} FROM ${table}`)).toEqual([[Number(rows[0].n), rows[0].sum]])
    }
    let backend = await BackendProcess.start(args, env)
    try {
      await expectEqual()
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        await client.query(`UPDATE ${table} SET note = note || '!' WHERE id % 5 = 0; DELETE FROM ${table} WHERE id % 11 = 3`)
        await expectEqual()
        await backend.stop(signal)
        await client.query(`INSERT INTO ${table} SELECT max(id) + 1, 'while away' FROM ${table}`)
        backend = await BackendProcess.start(args, env)
        await expectEqual()
      }
      const isRemote = flags.some((flag) => flag.startsWith('s3://'))
      expect((await backend.table(table)).metadataLocation.startsWith('s3://')).toBe(isRemote)
      if (isRemote) expect(readdirSync(join(stateDir, 'cache')).length).toBeGreaterThan(0)
    } finally {
      await backend.stop()
    }
  })
})
