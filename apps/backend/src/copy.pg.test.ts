import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-copy-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let backend: BackendProcess | null = null
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

const ROWS = 80_000
/** Small ranges and files, and a pace that leaves time to die. */
const SLOWLY = {
  MOONLINK_COPY_RANGE_BYTES: '512KiB',
  MOONLINK_COPY_MAX_BYTES_PER_SECOND: '3MiB',
  MOONLINK_MEMORY_LIMIT_BYTES: '16MiB',
}

interface CopyStatus {
  readonly share: number
  readonly bytes: number
  readonly totalBytes: number
}

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
  await database.client.query(`INSERT INTO items SELECT i, 0, md5(i::text) || md5((i + 1)::text),
    CASE WHEN i % 400 = 0 THEN repeat(md5(i::text), 100) END FROM generate_series(1, ${ROWS}) i`)
  const args = ['--source', database.connectionString, '--state-dir', stateDir]
  const copyStatus = async (): Promise<CopyStatus | null> => {
    const table = (await backend!.table('public.items').catch(() => null)) as { copy: CopyStatus | null } | null
    return table?.copy ?? null
  }
  for (const [round, share] of [0.3, 0.6, 0.85].entries()) {
    backend = await BackendProcess.launch(args, SLOWLY)
    for (;;) {
      expect(backend.child.exitCode, backend.said).toBeNull()
      const now = await copyStatus().catch(() => null)
      if (now !== null && now.share >= share) break
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await write(database, round)
    await backend.stop('SIGKILL')
    await write(database, round + 10)
  }
  backend = await BackendProcess.launch(args, { ...SLOWLY, MOONLINK_COPY_MAX_BYTES_PER_SECOND: '0' })
  await backend.ready()
  const metrics = await (await fetch(`${backend.url}/metrics`)).text()
  const read = Number(/^moonlink_copied_rows_total\{table="public.items"\} (\d+)/m.exec(metrics)?.[1] ?? 'NaN')
  // Of what was done by the last kill, only what was not in a finished file yet is read once more.
  expect(read).toBeLessThan(ROWS * 0.6)
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
