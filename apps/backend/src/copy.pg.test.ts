import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'

const postgres = withPostgres()
const others = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-copy-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let backend: BackendProcess | null = null
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

const ROWS = 80_000
/** Small ranges and files. */
const IN_PARTS = { MOONLINK_COPY_RANGE_BYTES: '256KiB', MOONLINK_MEMORY_LIMIT_BYTES: '16MiB' }

/** Rows that change, move to other pages, come, go and get other keys; values that are stored out of line stay as they are. */
async function write(database: TestDatabase, round: number): Promise<void> {
  await database.client.query(`UPDATE items SET n = n + 1 WHERE id % 50 = ${round}`)
  await database.client.query(`DELETE FROM items WHERE id % 97 = ${round}`)
  await database.client.query(`UPDATE items SET id = id + 10000000 WHERE id % 211 = ${round} AND id < 10000000`)
  await database.client.query(
    `INSERT INTO items SELECT ${ROWS} * ${round + 2} + i, 0, md5(i::text), NULL FROM generate_series(1, 500) i ON CONFLICT DO NOTHING`,
  )
  // What died makes room in pages that have been read, for rows of others to come to.
  await database.client.query('VACUUM items')
  await database.client.query(`UPDATE items SET n = n + 1 WHERE big IS NOT NULL`)
}

const checksum = (text: string) =>
  `count(*) || ':' || coalesce(sum(id), 0) || ':' || coalesce(sum(n), 0) || ':' || coalesce(sum(length(${text})), 0) || ':' || coalesce(sum(length(big)), 0)`

test('a backend that is killed while it copies goes on where it was: nothing is lost, and what was read is not read again', async () => {
  const database = await postgres.createDatabase()
  const stateDir = join(directory, database.name)
  await database.client.query(`CREATE TABLE items (id bigint PRIMARY KEY, n int, text text, big text) WITH (autovacuum_enabled = off);
    ALTER TABLE items ALTER big SET STORAGE EXTERNAL`)
  await database.client
    .query(`INSERT INTO items SELECT i, 0, md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) || md5((i + 3)::text),
    CASE WHEN i % 400 = 0 THEN repeat(md5(i::text), 100) END FROM generate_series(1, ${ROWS}) i`)
  const args = ['--source', database.connectionString, '--state-dir', stateDir]
  const env = { ...IN_PARTS, MOONLINK_SOURCE_URL: database.connectionString, MOONLINK_STATE_DIR: stateDir }
  for (let round = 0; round < 3; round++) {
    // Beside all copies.
    const written = write(database, round)
    backend = BackendProcess.dying({ point: 'data file put', side: 'after', spared: 3 }, env)
    const [, signal] = (await once(backend.child, 'exit')) as [number | null, string | null]
    expect(signal, backend.said).toBe('SIGKILL')
    await written
    await write(database, round + 10)
  }
  backend = await BackendProcess.start(args, IN_PARTS)
  const metrics = await (await fetch(`${backend.url}/metrics`)).text()
  const read = Number(/^moonlink_copied_rows_total\{table="public.items"\} (\d+)/m.exec(metrics)?.[1] ?? 'NaN')
  // What is in a finished file is not read once more.
  expect(read).toBeLessThan(ROWS * 0.9)
  await database.client.query(`UPDATE items SET n = n + 1 WHERE id % 3 = 0`)
  const lsn = await backend.wait()
  const { rows } = await database.client.query<{ sum: string }>(`SELECT ${checksum('text')} AS sum FROM items`)
  expect(await backend.query(`SELECT ${checksum('text')} AS sum FROM public.items`, lsn)).toEqual([[rows[0].sum]])
  await backend.wait({ iceberg: true })
  await backend.stop()
  backend = await BackendProcess.start(args)
  await backend.wait()
  expect(await backend.query(`SELECT ${checksum('text')} AS sum FROM public.items`)).toEqual([[rows[0].sum]])
  const log = readFileSync(join(stateDir, 'moonlink.log'), 'utf8')
  expect(log).toContain('"snapshots":4')
  expect(log).toContain('are read again where they changed')
})

test.each(['the warehouse is another', 'the source is another'])('what a copy has read counts for nothing where %s', async (what) => {
  const [first, second] = [await postgres.createDatabase(), await others.createDatabase()]
  const stateDir = join(directory, `${first.name}-reused`)
  // The same in both but for what it holds: its number and its file's, too.
  for (const [{ client }, text] of [
    [first, 'first'],
    [second, 'second'],
  ] as const) {
    await client.query('CREATE TABLE items (id bigint PRIMARY KEY, text text)')
    await client.query(`INSERT INTO items SELECT i, '${text}' || md5(i::text) || md5((i + 1)::text) FROM generate_series(1, 40000) i`)
  }
  // A snapshot of the first lies ahead of whatever the second comes to.
  for (let round = 0; round < 8; round++) await first.client.query(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 4000000))`)
  const env = (database: TestDatabase, warehouse: string) => ({
    ...IN_PARTS,
    MOONLINK_SOURCE_URL: database.connectionString,
    MOONLINK_STATE_DIR: stateDir,
    MOONLINK_WAREHOUSE: join(directory, `${first.name}-${warehouse}`),
  })
  backend = BackendProcess.dying({ point: 'data file put', side: 'after', spared: 2 }, env(first, 'one'))
  const [, signal] = (await once(backend.child, 'exit')) as [number | null, string | null]
  expect(signal, backend.said).toBe('SIGKILL')
  const source = what === 'the source is another' ? second : first
  backend = await BackendProcess.start([], { ...env(source, 'other'), MOONLINK_CATALOG_ON_LOST: 'copy' })
  await backend.wait({ iceberg: true })
  const sum = `SELECT count(*) || ':' || sum(id) || ':' || min(text) || ':' || max(text) AS sum`
  const { rows } = await source.client.query<{ sum: string }>(`${sum} FROM items`)
  expect(await backend.query(`${sum} FROM public.items`)).toEqual([[rows[0].sum]])
  const files = readdirSync(join(directory, `${first.name}-other`, 'public', 'items', 'data')).filter((name) => name.endsWith('.parquet'))
  expect(files).toHaveLength((await backend.table('public.items')).dataFiles)
})

test('a table that is dropped while it is copied goes at once, and those beside it are copied as if nothing were', async () => {
  const database = await postgres.createDatabase()
  const stateDir = join(directory, database.name)
  const { client } = database
  for (const table of ['kept', 'dropped']) {
    await client.query(`CREATE TABLE ${table} (id bigint PRIMARY KEY, text text)`)
    await client.query(`INSERT INTO ${table} SELECT i, md5(i::text) || md5((i + 1)::text) FROM generate_series(1, 30000) i`)
  }
  const filesOf = (table: string) => {
    const place = join(stateDir, 'warehouse', 'public', table)
    return existsSync(place) ? readdirSync(place, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()) : []
  }
  const isCopied = async (name: string) => (await backend!.table(name)).copy?.bytes
  backend = BackendProcess.launch(['--source', database.connectionString, '--state-dir', stateDir], {
    ...IN_PARTS,
    MOONLINK_COPY_MAX_BYTES_PER_SECOND: '1MiB',
  })
  const drop = async (purge: boolean) => {
    const answer = await fetch(`${backend!.url}/tables/public.dropped?purge=${purge}`, { method: 'DELETE' })
    expect(await answer.text()).toBe('{"done":true}')
  }
  await expect.poll(() => isCopied('public.dropped').catch(() => 0)).toBeGreaterThan(0)
  await drop(true)
  expect(filesOf('dropped')).toEqual([])
  expect(readdirSync(join(stateDir, 'warehouse', 'public'))).toEqual(['kept'])
  await client.query(`UPDATE dropped SET text = 'changed' WHERE id % 3 = 0; UPDATE kept SET text = 'changed' WHERE id % 3 = 0`)
  await backend.ready()
  await backend.wait()
  const sum = `SELECT count(*) || ':' || sum(id) || ':' || sum(length(text)) AS sum`
  const { rows: kept } = await client.query<{ sum: string }>(`${sum} FROM kept`)
  expect(await backend.query(`${sum} FROM public.kept`)).toEqual([[kept[0].sum]])
  expect(readFileSync(join(stateDir, 'moonlink.log'), 'utf8')).not.toContain('cut off')
  // Added again, it is dropped without --purge, and added once more.
  await backend.post('/tables', { tables: ['public.dropped'] })
  await expect.poll(() => isCopied('public.dropped').catch(() => 0)).toBeGreaterThan(0)
  await drop(false)
  expect((await backend.tables()).map(({ name }) => name)).toEqual(['public.kept'])
  await backend.post('/tables', { tables: ['public.dropped'] })
  await backend.wait()
  const { rows: again } = await client.query<{ sum: string }>(`${sum} FROM dropped`)
  expect(await backend.query(`${sum} FROM public.dropped`)).toEqual([[again[0].sum]])
  expect(filesOf('dropped').filter(({ name }) => name.endsWith('.parquet')).length).toBe((await backend.table('public.dropped')).dataFiles)
})

test('a table whose drop the source refuses is copied on by itself, and dropped once the source allows it', async () => {
  const database = await postgres.createDatabase()
  const { client } = database
  await client.query('CREATE TABLE kept (id bigint PRIMARY KEY); CREATE TABLE items (id bigint PRIMARY KEY, text text)')
  await client.query(`INSERT INTO items SELECT i, md5(i::text) || md5((i + 1)::text) FROM generate_series(1, 30000) i`)
  backend = BackendProcess.launch(['--source', database.connectionString, '--state-dir', join(directory, database.name)], {
    ...IN_PARTS,
    MOONLINK_COPY_MAX_BYTES_PER_SECOND: '1MiB',
  })
  const drop = async () => {
    const answer = await fetch(`${backend!.url}/tables/public.items`, { method: 'DELETE' })
    return [answer.ok, await answer.text()] as const
  }
  await expect.poll(async () => (await backend!.table('public.items').catch(() => null))?.copy?.bytes ?? 0).toBeGreaterThan(0)
  await client.query(`CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
    CREATE EVENT TRIGGER refused ON ddl_command_start WHEN TAG IN ('ALTER PUBLICATION') EXECUTE FUNCTION refuse()`)
  const [isDropped, why] = await drop()
  expect([isDropped, why]).toEqual([false, expect.stringContaining('not now')])
  await expect.poll(async () => (await backend!.table('public.items')).state, { timeout: 60_000 }).toBe('streaming')
  await client.query('INSERT INTO items SELECT i FROM generate_series(30001, 30010) i')
  await backend.wait()
  const sum = `SELECT count(*) || ':' || count(text) || ':' || sum(id) AS sum FROM public.items`
  expect(await backend.query(sum)).toEqual([['30010:30000:450315055']])
  await client.query('DROP EVENT TRIGGER refused')
  expect(await drop()).toEqual([true, '{"done":true}'])
  expect((await backend.tables()).map(({ name }) => name)).toEqual(['public.kept'])
})

test('a backend that is stopped amid a copy says that the next start goes on with it', async () => {
  const database = await postgres.createDatabase()
  await database.client.query('CREATE TABLE slow (id bigint PRIMARY KEY, text text)')
  await database.client.query(`INSERT INTO slow SELECT i, md5(i::text) FROM generate_series(1, 50000) i`)
  const args = ['--source', database.connectionString, '--state-dir', join(directory, database.name)]
  backend = BackendProcess.launch([...args, '--set', 'copy.maxBytesPerSecond=64KiB'])
  await expect.poll(async () => (await backend!.tables())[0]?.state, { timeout: 60_000 }).toBe('copying')
  expect(await backend.stop(), backend.said).toBe(0)
  expect(backend.said).toContain(
    'stopped before all of public.slow was copied, or compared with the source: the next start goes on with that',
  )
  backend = await BackendProcess.start(args)
  await backend.wait({ iceberg: true })
  expect(await backend.stop()).toBe(0)
  expect(backend.said).toContain('stopped; everything that was read is in Iceberg')
})
