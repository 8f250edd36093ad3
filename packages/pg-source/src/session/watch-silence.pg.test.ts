import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { schemaOf, tableOf } from './harness.test.support.ts'
import { openPgSource } from './source.ts'
import { troubleOf } from './watch-silence.ts'

const postgres = withPostgres()

test('a server says of a session whether it is at its statement, waits for its client, or is gone', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  const connection = { rows: async <T>(sql: string, values: readonly unknown[] = []) => (await client.query(sql, [...values])).rows as T[] }
  const other = new pg.Client(connectionString)
  await other.connect()
  const { rows } = await other.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const { pid } = rows[0]
  await expect.poll(() => troubleOf(connection, pid)).toMatch(/waits for us/)
  const sleeping = other.query('SELECT pg_sleep(600)').catch((error: Error) => error.message)
  await expect.poll(() => troubleOf(connection, pid)).toBeNull()
  await client.query('SELECT pg_cancel_backend($1)', [pid])
  expect(await sleeping).toMatch(/canceling/)
  await other.end()
  await expect.poll(() => troubleOf(connection, pid)).toMatch(/has ended/)
})

test.runIf(process.platform !== 'win32')(
  'a server that falls silent is given up by a copy that reads, a comparison, and a snapshot that waits for other transactions',
  { timeout: 60_000 },
  async () => {
    const { client, connectionString, name } = await postgres.createDatabase()
    await client.query(`CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items SELECT generate_series(1, 1000)`)
    const settings = { connection: connectionString, slot: name, statementTimeoutMs: 1000, connectTimeoutMs: 500, copyWorkers: 1 }
    const source = await openPgSource(settings)
    await source.prepare([tableOf('public.items')])
    const items = { table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }
    const copy = await source.copy([items], new AbortController().signal)
    const compared = await source.snapshot()
    const writer = new pg.Client(connectionString)
    await writer.connect()
    await writer.query('BEGIN; INSERT INTO items VALUES (0)')
    const waiting = source.snapshot()
    const pidsOf = async (...purposes: string[]) => {
      const applications = purposes.map((purpose) => `moonlink ${purpose}`)
      const sql = 'SELECT pid FROM pg_stat_activity WHERE application_name = ANY ($1) AND datname = current_database()'
      return (await client.query<{ pid: number }>(sql, [applications])).rows.map(({ pid }) => pid)
    }
    await expect.poll(() => source.waits()).toHaveLength(1)
    const { rows } = await client.query<{ data_directory: string }>('SHOW data_directory')
    const postmaster = Number(readFileSync(join(rows[0].data_directory, 'postmaster.pid'), 'utf8').split('\n')[0])
    // Only what is idle: one that waits for a lock may hold those of the lock manager just now, and all others with them.
    const frozen = [postmaster, ...(await pidsOf('copy', 'copy guard', 'verify'))]
    const [catalog] = await pidsOf('catalog')
    const thaw = () => frozen.splice(0).forEach((pid) => process.kill(pid, 'SIGCONT'))
    onTestFinished(thaw)
    for (const pid of frozen) process.kill(pid, 'SIGSTOP')
    // What asks finds no connection either.
    await client.query('SELECT pg_terminate_backend($1)', [catalog])
    const lost = { kind: 'retry', code: 'PG_CONNECTION_LOST', message: expect.stringMatching(/is silent, and does not answer/) as string }
    const ended = await Promise.allSettled([
      copy.read(items.table, () => Promise.resolve()),
      compared.rows('SELECT count(*) FROM items'),
      waiting,
    ])
    expect(ended).toEqual(ended.map(() => ({ status: 'rejected', reason: expect.objectContaining(lost) as unknown })))
    // Nor does it take a goodbye to end.
    await Promise.all([copy.close(), compared.close()])
    thaw()
    await writer.end()
    await source.close()
  },
)
