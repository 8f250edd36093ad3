import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadRoaring, PositionSet } from '@moonlink/deletion-log'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { ForeignWriter } from './testing/foreign-writer.ts'
import { until } from './testing/until.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-foreign-'))
const tables = ['numbered', 'named', 'loose']
let database: TestDatabase
let backend: BackendProcess
let foreign: ForeignWriter

beforeAll(() => loadRoaring())
beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(`
    CREATE TABLE numbered (id int PRIMARY KEY, note text);
    CREATE TABLE named (name text PRIMARY KEY, note text);
    CREATE TABLE loose (id int, note text); ALTER TABLE loose REPLICA IDENTITY FULL;
    INSERT INTO numbered SELECT i, 'n' || i FROM generate_series(1, 50) i;
    INSERT INTO named SELECT 'name ' || i, 'n' || i FROM generate_series(1, 50) i;
    INSERT INTO loose SELECT i / 2, 'n' FROM generate_series(1, 50) i`)
  foreign = new ForeignWriter(join(directory, database.name, 'warehouse'))
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
  await foreign.close()
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function start(env: Record<string, string> = {}): Promise<void> {
  const state = join(directory, database.name)
  const args = ['--source', database.connectionString, '--state-dir', state, '--warehouse', join(state, 'warehouse')]
  backend = await BackendProcess.start(args, { MOONLINK_FLUSH_INTERVAL_MS: '200ms', ...env })
}

async function expectEqual(): Promise<void> {
  await until('all tables', async () => (await backend.tables()).every(({ state }) => state === 'streaming'))
  await backend.wait({ iceberg: true })
  await expectVerified(backend.url, directory)
}

async function changeAll(note: string): Promise<void> {
  await database.client.query(`
    UPDATE numbered SET note = '${note}' WHERE id % 7 = 0; UPDATE named SET note = '${note}' WHERE name LIKE '%7'; DELETE FROM loose WHERE id = 5;
    INSERT INTO loose VALUES (5, '${note}')`)
}

/** Deletes the first rows of each file. */
async function deleteSome(name: string): Promise<void> {
  const storage = await foreign.open(name)
  const vectors = storage.snapshot.files.map(({ path }) => {
    const dead = new PositionSet()
    for (const row of [0, 1, 2]) dead.add(row)
    return { dataFile: path, bitmap: dead.toPortable(), cardinality: 3 }
  })
  await storage.commit({ kind: 'append', addFiles: [], removeFiles: [], vectors, lsn: 1n })
}

test('rows that another writer added or deleted while no backend ran are noticed at the start, and no LSN shows them', async () => {
  await start()
  await expectEqual()
  await changeAll('before')
  const before = await backend.wait({ iceberg: true })
  await backend.stop()
  for (const name of tables) await foreign.double(name)
  await deleteSome('named')
  await start()
  await until('the comparison', async () => (await backend.tables()).every(({ state }) => state === 'streaming'))
  expect(await backend.query('SELECT (SELECT count(*) FROM numbered)::INT, (SELECT count(*) FROM named)::INT', before)).toEqual([[50, 50]])
  await expectEqual()
  expect(backend.said).toContain('another writer changed rows of its Iceberg table')
  await changeAll('after')
  await expectEqual()
  await backend.stop()
  await start()
  await expectEqual()
  expect(backend.said).not.toContain('made equal to its source')
})

test('what another writer does while the backend runs is noticed by the next commit, and mended', async () => {
  await start()
  await expectEqual()
  await foreign.double('numbered')
  await deleteSome('named')
  await foreign.double('loose')
  await changeAll('amid')
  await until('the conflicts', async () => (backend.said.match(/table failed/g) ?? []).length >= tables.length)
  await expectEqual()
})

test('a table that another writer rolled back has no gap in it', async () => {
  // What the slot lets go of is nowhere else then.
  const env = { MOONLINK_CHANGE_LOG_ENABLED: 'false' }
  await start(env)
  await expectEqual()
  const { snapshotId } = (await foreign.open('numbered')).snapshot
  await changeAll('lost')
  await backend.wait({ iceberg: true })
  // What the source lets go of then is in Iceberg.
  await database.client.query('INSERT INTO named VALUES ($$other$$)')
  await backend.wait({ iceberg: true })
  await backend.stop()
  await foreign.rollBack('numbered', snapshotId!)
  await start(env)
  await expectEqual()
})

test('an Iceberg table that was dropped is copied again by request', async () => {
  await start()
  await expectEqual()
  await foreign.drop('numbered')
  await changeAll('gone')
  await until('the failure', async () => (await backend.table('public.numbered')).reason?.startsWith('TABLE_GONE') === true)
  await backend.post('/tables/public.numbered/resync', {})
  await expectEqual()
})
