import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-truncate-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess

beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(`
    CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, note text);
    CREATE TABLE other (id int, note text); ALTER TABLE other REPLICA IDENTITY FULL;
    INSERT INTO parent (note) SELECT 'p' || i FROM generate_series(1, 300) i;
    INSERT INTO child SELECT i, i, 'c' || i FROM generate_series(1, 300) i;
    INSERT INTO other SELECT i, 'o' || i FROM generate_series(1, 300) i`)
})
afterEach(() => backend?.stop('SIGKILL'))

const start = async (env: Record<string, string> = {}) => {
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', join(directory, database.name)], env)
}
const print = (table: string, text: string) =>
  `SELECT count(*)::${text} || ':' || coalesce(sum(id), 0)::${text} || ':' || coalesce(min(note), '') || ':' || coalesce(max(note), '') FROM ${table}`
const tables = ['parent', 'child', 'other']

async function expectEqual(): Promise<void> {
  await backend.wait()
  for (const table of tables) {
    const { rows } = await database.client.query<{ print: string }>(`SELECT (${print(table, 'text')}) AS print`)
    expect(await backend.query(print(table, 'VARCHAR')), table).toEqual([[rows[0].print]])
    expect(await backend.table(`public.${table}`), table).toMatchObject({ state: 'streaming' })
  }
}

test('TRUNCATE empties tables at its commit, in memory and in files, alone and amid other changes', async () => {
  await start({ MOONLINK_FLUSH_INTERVAL_MS: '1h' })
  await database.client.query(
    `INSERT INTO other SELECT i, 'm' || i FROM generate_series(301, 400) i; UPDATE child SET note = 'u' || id WHERE id < 50`,
  )
  await expectEqual()
  const before = await backend.wait()
  // What was there in files and in memory, what the transaction itself wrote before; not what it wrote after.
  await database.client.query(`
    BEGIN; INSERT INTO child VALUES (1000, 1, 'gone'); TRUNCATE parent, other RESTART IDENTITY CASCADE;
    INSERT INTO parent (note) VALUES ('first'), ('second'); INSERT INTO child VALUES (1, 1, 'anew'); DELETE FROM child WHERE id = 1;
    TRUNCATE child; INSERT INTO child VALUES (7, 2, 'seven'); COMMIT`)
  await expectEqual()
  expect(await backend.query('SELECT id, note FROM parent ORDER BY id')).toEqual([
    [1, 'first'],
    [2, 'second'],
  ])
  expect(await backend.query('SELECT count(*)::INT, sum(id)::INT FROM other', before)).toEqual([[400, 80_200]])
  expect(await backend.query(`SELECT count(*)::INT FROM child WHERE note LIKE 'u%'`, before)).toEqual([[49]])
  // One commit removes the old files and adds the new rows.
  await backend.wait({ iceberg: true })
  expect(await backend.table('public.child')).toMatchObject({ dataFiles: 1, deletionVectors: 0 })
  expect(await backend.table('public.other')).toMatchObject({ dataFiles: 0, rows: 0 })
  await expectEqual()
  await backend.stop()
  await start()
  await expectEqual()
})

test('a TRUNCATE that is rolled back, and ones amid flushes and kills', async () => {
  await start({ MOONLINK_FLUSH_INTERVAL_MS: '100ms' })
  await database.client.query('BEGIN; TRUNCATE parent CASCADE; ROLLBACK; BEGIN; SAVEPOINT s; TRUNCATE other; ROLLBACK TO s; COMMIT')
  await expectEqual()
  for (let round = 1; round <= 6; round++) {
    await database.client.query(`
      INSERT INTO other SELECT i, 'r' || i FROM generate_series(1, 200) i; UPDATE other SET note = note || '${round}' WHERE id % 2 = 0;
      TRUNCATE ${round % 2 ? 'other' : 'other, child'}; INSERT INTO other VALUES (${round}, 'round ${round}')`)
    if (round % 3 === 0) {
      await backend.stop('SIGKILL')
      await start({ MOONLINK_FLUSH_INTERVAL_MS: '100ms' })
    }
    await database.client
      .query(`INSERT INTO child VALUES (${1000 + round}, 1, 'c'); DELETE FROM parent WHERE id = ${290 - round}`)
      .catch(() => undefined)
    await expectEqual()
  }
})
