import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'

/** What Postgres leaves out of an update, a value out of line that did not change, is filled in from the row as it was, whatever names rows and wherever the row lies. */
const postgres = withPostgres({ settings: { logical_decoding_work_mem: '64kB' } })
const directory = mkdtempSync(join(tmpdir(), 'moonlink-toast-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const identities = {
  by_key: '',
  by_index: `CREATE UNIQUE INDEX by_index_other ON by_index (other); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_other;`,
  by_all: `ALTER TABLE by_all REPLICA IDENTITY FULL;`,
  by_all_without_a_key: `ALTER TABLE by_all_without_a_key DROP CONSTRAINT by_all_without_a_key_pkey, REPLICA IDENTITY FULL;`,
}
const tables = Object.keys(identities)

const big = `(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 100))`
/** What happens to the row whose id is `id`, of a table `t`; a transaction each. */
const changes: Readonly<Record<string, string>> = {
  'is touched': `UPDATE t SET n = n + 1 WHERE id = $id`,
  'is touched twice': `UPDATE t SET n = n + 1 WHERE id = $id; UPDATE t SET n = n + 10 WHERE id = $id`,
  'gets one large value, and keeps the other': `UPDATE t SET body = ${big} WHERE id = $id; UPDATE t SET n = 5 WHERE id = $id`,
  'loses one large value, and keeps the other': `UPDATE t SET body = NULL WHERE id = $id; UPDATE t SET n = 5 WHERE id = $id`,
  'moves its key': `UPDATE t SET id = id + 1000, other = other + 1000 WHERE id = $id`,
  'moves its key twice': `UPDATE t SET id = id + 1000, other = other + 1000 WHERE id = $id; UPDATE t SET id = id + 1000, other = other + 1000, n = 7 WHERE id = $id + 1000`,
  'moves away and another comes in its place': `UPDATE t SET id = id + 1000, other = other + 1000 WHERE id = $id;
    INSERT INTO t VALUES ($id, $id, 0, ${big}, 'another'); UPDATE t SET n = 8 WHERE id IN ($id, $id + 1000)`,
  'is deleted and made again': `DELETE FROM t WHERE id = $id; INSERT INTO t VALUES ($id, $id, 0, ${big}, ${big}); UPDATE t SET n = 9 WHERE id = $id`,
  'is changed, and that is rolled back to a savepoint': `UPDATE t SET n = 1 WHERE id = $id; SAVEPOINT s; UPDATE t SET body = ${big}, id = id + 1000, other = other + 1000 WHERE id = $id;
    ROLLBACK TO s; UPDATE t SET n = n + 2 WHERE id = $id`,
}
const situations = Object.values(changes)
/** Enough to be sent before the transaction ends. */
const filler = `INSERT INTO t SELECT g, g, 0, repeat(md5(g::text), 40), NULL FROM generate_series($from, $from + 150) g`

test('a row that is touched, moved, made again, twice, in transactions of any size, keeps its large values, under each replica identity', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  for (const name of tables) {
    await client.query(`CREATE TABLE ${name} (id int NOT NULL PRIMARY KEY, other int NOT NULL, n int, body text, more text);
      ALTER TABLE ${name} ALTER body SET STORAGE EXTERNAL, ALTER more SET STORAGE EXTERNAL; ${identities[name as keyof typeof identities]}
      INSERT INTO ${name} SELECT g, g, 0, ${big} || g, repeat(md5(g::text), 90) FROM generate_series(1, 60) g`)
  }
  const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, 'state')], {
    MOONLINK_FLUSH_INTERVAL_MS: '1h',
  })
  const moments: { lsn: string; name: string; rows: unknown[] }[] = []
  const sql = (name: string) => `SELECT id, other, n, md5(body), md5(more) FROM public.${name} ORDER BY 1`
  const expectEqual = async () => {
    const lsn = await backend.wait()
    for (const name of tables) {
      const { rows } = await client.query<unknown[]>({ text: sql(name), rowMode: 'array' })
      expect(await backend.query(sql(name)), name).toEqual(rows)
      moments.push({ lsn, name, rows })
    }
  }
  try {
    // Rows in files, rows in memory since, and both within transactions that are streamed.
    const kinds = [
      { rows: 0, isNew: false, isLarge: false },
      { rows: 100, isNew: true, isLarge: false },
      { rows: 10, isNew: false, isLarge: true },
      { rows: 200, isNew: true, isLarge: true },
    ]
    for (const { rows, isNew, isLarge } of kinds) {
      for (const name of tables) {
        if (isNew)
          await client.query(
            `INSERT INTO ${name} SELECT g, g, 0, ${big} || g, ${big} FROM generate_series(${rows + 1}, ${rows + situations.length}) g`,
          )
        for (const [index, change] of situations.entries()) {
          const id = rows + index + 1
          const from = 10_000 + id * 1000
          const parts = isLarge ? [filler, change, filler.replace('$from, $from', '$from + 500, $from + 500')] : [change]
          await client.query(
            `BEGIN; ${parts
              .join('; ')
              .replace(/\bt\b(?! g)/g, name)
              .replaceAll('$id', String(id))
              .replaceAll('$from', String(from))}; COMMIT`,
          )
        }
      }
      await expectEqual()
    }
    const { rows: streamed } = await client.query<{ count: string }>(
      `SELECT sum(stream_txns) AS count FROM pg_stat_replication_slots JOIN pg_replication_slots USING (slot_name) WHERE database = current_database()`,
    )
    expect(Number(streamed[0].count)).toBeGreaterThan(0)
    for (const { lsn, name, rows } of moments) expect(await backend.query(sql(name), lsn), `${name} at ${lsn}`).toEqual(rows)
    await backend.wait({ iceberg: true })
    await expectEqual()
    for (const name of tables) expect(await backend.table(`public.${name}`), name).toMatchObject({ state: 'streaming', reason: null })
  } finally {
    await backend.stop('SIGKILL')
  }
})
