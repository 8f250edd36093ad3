import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { s3Environment } from './testing/s3-environment.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-small-cache-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const limitBytes = 1024 * 1024

test('files in S3 that exceed the cache together are read within it; one that exceeds it alone is refused at once', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  const insert = (table: string, from: number, to: number) =>
    client.query(`INSERT INTO ${table} SELECT i, md5(i::text) || md5('x' || i) FROM generate_series(${from}, ${to}) i`)
  await client.query('CREATE TABLE parts (id bigint PRIMARY KEY, note text); CREATE TABLE whole (LIKE parts INCLUDING ALL)')
  await insert('whole', 1, 40_000)
  const { bucket, env } = s3Environment()
  const warehouse = `s3://${bucket}/moonlink-${randomBytes(4).toString('hex')}`
  const stateDir = join(directory, 'state')
  const settings = ['cache.limitBytes=1MiB', 'compaction.enabled=false'].flatMap((one) => ['--set', one])
  const backend = await BackendProcess.start(
    ['--source', connectionString, '--state-dir', stateDir, '--warehouse', warehouse, ...settings],
    env,
  )
  try {
    for (let part = 0; part < 4; part++) {
      await insert('parts', part * 12_000 + 1, (part + 1) * 12_000)
      await backend.wait({ iceberg: true })
    }
    await client.query('DELETE FROM parts WHERE id % 5 = 2')
    await backend.wait({ iceberg: true })
    await insert('parts', 100_000, 100_010)
    await backend.wait()
    expect((await backend.table('public.parts')).dataFiles).toBeGreaterThan(3)
    const statements = [
      `SELECT count(*)::int, md5(string_agg(id || note, ',' ORDER BY id)) FROM parts`,
      `SELECT id::int, note FROM parts WHERE id BETWEEN 11990 AND 12010 ORDER BY id`,
      `SELECT count(*)::int FROM parts p JOIN parts q ON p.id = q.id + 12000`,
    ]
    const expected: unknown[][] = []
    for (const text of statements) expected.push((await client.query<unknown[]>({ text, rowMode: 'array' })).rows)
    // At once: each waits for room without holding any.
    const found = await Promise.all([...statements, ...statements].map((sql) => backend.query(sql)))
    expect(found).toEqual([...expected, ...expected])
    const cached = readdirSync(join(stateDir, 'cache')).map((name) => statSync(join(stateDir, 'cache', name)).size)
    expect(cached.length).toBeGreaterThan(0)
    expect(cached.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(limitBytes)
    await expect(backend.query('SELECT max(note) FROM whole')).rejects.toThrow(/has \d{7} bytes.*may hold 1048576.*cache\.limitBytes/)
    expect(await backend.query('SELECT count(*) FROM whole')).toEqual([[40_000]])
  } finally {
    await backend.stop()
  }
})
