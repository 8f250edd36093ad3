import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'

/** Tables that are renamed, moved, replaced and made again: by name each shows what the source has under it, and the tables never mix. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-renamed-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function start(name: string, how: 'told' | 'untold', setting = '', env: Readonly<Record<string, string>> = {}) {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(
    `CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT g, 'a' || g FROM generate_series(1, 50) g; CREATE TABLE other (id int PRIMARY KEY)`,
  )
  if (how === 'told') expect(await moonlink(['ddl', 'install', '--source', connectionString])).toMatchObject({ status: 0 })
  const set = ['source.slotCheckMs=200', setting].flatMap((text) => (text === '' ? [] : ['--set', text]))
  const args = ['--source', connectionString, '--state-dir', join(directory, `${name}-${how}`), ...set]
  const backend = await BackendProcess.start(args, env)
  await client.query(`INSERT INTO t VALUES (51, 'a51')`)
  const { rows } = await client.query<{ lsn: string }>(`SELECT pg_current_wal_insert_lsn()::text AS lsn`)
  await backend.wait({ iceberg: true })
  return { client, backend, args, lsn: rows[0].lsn }
}

const ids = async (backend: BackendProcess, table: string) =>
  (await backend.query(`SELECT id FROM ${table} ORDER BY id`).catch(() => [])).map(([id]) => id)
const states = async (backend: BackendProcess) => Object.fromEntries((await backend.tables()).map(({ name, state }) => [name, state]))
const from = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index)

test.each([
  ['renamed', 'told', `ALTER TABLE t RENAME TO u`, 'public.u'],
  ['moved', 'untold', `CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s`, 's.t'],
] as const)('a table that is %s (%s) goes on under its new name, also after a stop', async (name, how, ddl, now) => {
  const running = await start(name, how)
  const { args, client } = running
  let { backend } = running
  try {
    await client.query(ddl)
    await client.query(`INSERT INTO ${now} VALUES (52, 'a52')`)
    await expect.poll(() => ids(backend, now)).toEqual(from(1, 52))
    await expect.poll(() => states(backend)).toEqual({ [now]: 'streaming', 'public.other': 'streaming' })
    await backend.wait({ iceberg: true })
    expect(await backend.stop()).toBe(0)
    await client.query(`DELETE FROM ${now} WHERE id = 1; INSERT INTO ${now} VALUES (53, 'a53')`)
    backend = await BackendProcess.start(args)
    await backend.wait()
    expect(await states(backend)).toEqual({ [now]: 'streaming', 'public.other': 'streaming' })
    expect(await ids(backend, now)).toEqual(from(2, 53))
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('where another table takes the name, both are mirrored, each under its own', async () => {
  const { backend, client, lsn } = await start('replaced', 'untold')
  try {
    await client.query(
      `BEGIN; CREATE TABLE fresh (id int PRIMARY KEY, a int); INSERT INTO fresh VALUES (1000, 1); ALTER TABLE t RENAME TO old; ALTER TABLE fresh RENAME TO t; COMMIT`,
    )
    await client.query(`INSERT INTO old VALUES (52, 'a52'); INSERT INTO t VALUES (1001, 2)`)
    await expect.poll(() => ids(backend, 'public.old')).toEqual(from(1, 52))
    await expect.poll(() => ids(backend, 'public.t')).toEqual([1000, 1001])
    await client.query(`INSERT INTO old VALUES (53, 'a53'); DELETE FROM t WHERE id = 1000`)
    await backend.wait({ iceberg: true })
    expect([await ids(backend, 'public.old'), await ids(backend, 'public.t')]).toEqual([from(1, 53), [1001]])
    expect(await backend.query(`SELECT count(*), max(a) FROM t`, lsn)).toEqual([[51, 'a9']])
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('where changes wait for a command, the pause names one, and it mirrors the table under its new name', async () => {
  const { backend, client } = await start('commanded', 'untold', 'source.onSchemaChange=pause')
  try {
    await client.query(`ALTER TABLE t RENAME TO u`)
    const reason = async () => (await backend.table('public.t')).reason
    await expect.poll(reason).toMatch(/^TABLE_RENAMED .*public\.u now; moonlink tables resync public\.t mirrors it/)
    await client.query(`INSERT INTO u VALUES (52, 'a52')`)
    expect(await moonlink(['tables', 'resync', 'public.t', '--url', backend.url])).toMatchObject({ status: 0 })
    await expect.poll(() => ids(backend, 'public.u')).toEqual(from(1, 52))
    await expect.poll(() => states(backend)).toEqual({ 'public.u': 'streaming', 'public.other': 'streaming' })
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('columns that are left out under the old name are not mirrored under the new one', async () => {
  const { backend, client } = await start('excluded', 'untold', '', { MOONLINK_SOURCE_EXCLUDE_COLUMNS: '{"public.t":["a"]}' })
  try {
    await client.query(`ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (52, 'a52')`)
    await expect.poll(() => backend.said).toContain('source.excludeColumns names it public.t')
    expect(await states(backend)).toEqual({ 'public.t': 'paused', 'public.other': 'streaming' })
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('a table that is dropped without anybody telling is noticed, and taken on once it is made again', async () => {
  const { backend, client, lsn } = await start('dropped', 'untold')
  try {
    await client.query(`DROP TABLE t`)
    await expect.poll(async () => (await backend.table('public.t')).reason).toMatch(/^TABLE_DROPPED /)
    await client.query(`CREATE TABLE t (id int PRIMARY KEY, b int); INSERT INTO t VALUES (1000, 1)`)
    await expect.poll(() => ids(backend, 'public.t')).toEqual([1000])
    await client.query(`INSERT INTO t VALUES (1001, 1)`)
    await backend.wait()
    expect(await ids(backend, 'public.t')).toEqual([1000, 1001])
    // At once, too.
    await client.query(`BEGIN; DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, b int); INSERT INTO t VALUES (2000, 1); COMMIT`)
    await expect.poll(() => ids(backend, 'public.t')).toEqual([2000])
    expect(await backend.query(`SELECT count(*) FROM t`, lsn)).toEqual([[51]])
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL').catch(() => undefined)
  }
})
