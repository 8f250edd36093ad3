import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { Client } from 'pg'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { verified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-privilege-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let role: string
let args: readonly string[]
let backend: BackendProcess | undefined

beforeEach(async () => {
  database = await postgres.createDatabase()
  role = `least_${database.name}`
  await database.client.query(`CREATE SCHEMA "My Shop"; CREATE TABLE "My Shop".orders (id bigint PRIMARY KEY, note text);
    INSERT INTO "My Shop".orders SELECT i, 'note ' || i FROM generate_series(1, 100) i;
    CREATE TABLE public.lines (id bigint PRIMARY KEY); INSERT INTO public.lines SELECT generate_series(1, 10)`)
  const url = new URL(database.connectionString)
  url.username = role
  url.password = 'secret'
  args = ['--source', url.href, '--state-dir', join(directory, database.name), '--set', 'source.publication=just_these']
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
  backend = undefined
})

async function roleSql(...more: readonly string[]): Promise<string> {
  const flags = ['--role', role, '--database', database.name, '--publication', 'just_these']
  const tables = ['--table', 'My Shop.orders', '--table', 'public.lines']
  const made = await moonlink(['role-sql', ...flags, ...tables, ...more], {}, directory)
  expect(made, made.stderr).toMatchObject({ status: 0 })
  return made.stdout
}

async function makeRole(): Promise<void> {
  await database.client.query(await roleSql())
  await database.client.query(`ALTER ROLE ${role} PASSWORD 'secret'`)
}

async function isEqual(): Promise<void> {
  const result = await verified(backend!.url, directory)
  expect(result, result.stdout + result.stderr).toMatchObject({ status: 0 })
}

test('the role that role-sql makes is enough to mirror, and may do nothing else', async () => {
  await makeRole()
  backend = await BackendProcess.start(args)
  await database.client.query(`UPDATE "My Shop".orders SET note = 'changed' WHERE id <= 10; TRUNCATE public.lines`)
  await backend.wait()
  expect(await backend.query(`SELECT count(*) FROM "My Shop".orders WHERE note = 'changed'`)).toEqual([[10]])
  await isEqual()
  const { rows } = await database.client.query(
    `SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = $1`,
    [role],
  )
  expect(rows).toEqual([{ rolsuper: false, rolcreatedb: false, rolcreaterole: false, rolbypassrls: false }])
  const least = new Client(args[1])
  await least.connect()
  try {
    await expect(least.query(`DELETE FROM "My Shop".orders`)).rejects.toThrow(/permission denied/)
    await expect(least.query(`CREATE TABLE "My Shop".mine (i int)`)).rejects.toThrow(/permission denied/)
    await expect(least.query(`ALTER PUBLICATION just_these DROP TABLE public.lines`)).rejects.toThrow(/must be owner/)
  } finally {
    await least.end()
  }
})

test('the SQL for each hosted service makes a role that may log in and replicate', async () => {
  const { client } = database
  await client.query(`DO $$ BEGIN CREATE ROLE rds_replication; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
  for (const service of ['postgres', 'rds', 'cloudsql', 'azure', 'supabase']) {
    await client.query('BEGIN')
    await client.query(await roleSql('--service', service))
    const { rows } = await client.query(
      `SELECT rolcanlogin AS login, rolreplication OR pg_has_role(oid, 'rds_replication', 'USAGE') AS replicates FROM pg_roles WHERE rolname = $1`,
      [role],
    )
    expect(rows, service).toEqual([{ login: true, replicates: true }])
    await client.query('ROLLBACK')
  }
})

test('each thing that is missing at a start is named, and the statement that is named mends it', { timeout: 300_000 }, async () => {
  await makeRole()
  const { client, name } = database
  const missing: readonly (readonly [taken: string, code: string, statement: RegExp])[] = [
    [`ALTER ROLE ${role} NOLOGIN`, 'PG_AUTH', /ALTER ROLE "\S+" LOGIN/],
    [`REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC, ${role}`, 'PG_CONNECT_PRIVILEGE', /GRANT CONNECT ON DATABASE "\S+" TO "\S+"/],
    [`ALTER ROLE ${role} NOREPLICATION`, 'PG_REPLICATION_PRIVILEGE', /ALTER ROLE "\S+" REPLICATION/],
    [`REVOKE USAGE ON SCHEMA "My Shop" FROM ${role}`, 'PG_SELECT_PRIVILEGE', /GRANT USAGE ON SCHEMA "My Shop" TO "\S+"/],
    [`REVOKE SELECT ON public.lines FROM ${role}`, 'PG_SELECT_PRIVILEGE', /GRANT SELECT ON "public"."lines" TO "\S+"/],
    [`ALTER TABLE public.lines ENABLE ROW LEVEL SECURITY`, 'PG_SELECT_PRIVILEGE', /ALTER ROLE "\S+" BYPASSRLS/],
    [
      `ALTER PUBLICATION just_these DROP TABLE public.lines`,
      'TABLE_UNPUBLISHED',
      /ALTER PUBLICATION "just_these" ADD TABLE ONLY "public"."lines"/,
    ],
    [`DROP PUBLICATION just_these`, 'PG_CREATE_PRIVILEGE', /moonlink role-sql/],
  ]
  const tables = ['--table', 'My Shop.orders', '--table', 'public.lines']
  for (const [taken, code, statement] of missing) {
    await client.query(taken)
    const { status, stderr } = await moonlink(['start', ...args, ...tables, '--http', '127.0.0.1:0'], {}, directory)
    expect(`${status} ${stderr}`, taken).toMatch(new RegExp(`^1 ${code} `))
    expect(stderr, taken).toMatch(statement)
    if (code !== 'PG_CREATE_PRIVILEGE') await client.query(statement.exec(stderr)![0])
  }
  await client.query(/CREATE PUBLICATION[^;]*/.exec(await roleSql())![0])
  backend = await BackendProcess.start([...args, ...tables])
  await isEqual()
})

test('a table that may not be read any more is paused, with the statement that lets it, and goes on when it is resumed', async () => {
  await makeRole()
  backend = await BackendProcess.start([...args, '--set', 'source.slotCheckMs=200'])
  await database.client.query(`REVOKE SELECT ON public.lines FROM ${role}`)
  const state = (table: string) => backend!.table(table).then(({ reason, state }) => `${state} ${reason ?? ''}`)
  await expect
    .poll(() => state('public.lines'))
    .toMatch(new RegExp(`^paused PG_SELECT_PRIVILEGE .*GRANT SELECT ON "public"."lines" TO "${role}"`))
  await database.client.query(`DELETE FROM public.lines WHERE id = 3; INSERT INTO "My Shop".orders VALUES (1000, 'goes on')`)
  await expect.poll(() => backend!.query(`SELECT note FROM "My Shop".orders WHERE id = 1000`)).toEqual([['goes on']])
  await database.client.query(`GRANT SELECT ON public.lines TO ${role}`)
  await backend.post('/tables/public.lines/resync', {})
  await expect.poll(() => state('public.lines')).toBe('streaming ')
  await isEqual()
})

test('a comparison that row-level security hides rows from fails, and finds no difference', async () => {
  await makeRole()
  backend = await BackendProcess.start([...args, '--set', 'source.slotCheckMs=1h'])
  await isEqual()
  await database.client.query(`ALTER TABLE public.lines ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON public.lines USING (id < 3)`)
  const hidden = await moonlink(['verify', 'public.lines'], { MOONLINK_URL: backend.url }, directory)
  expect(hidden).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/^public\.lines: could not be compared: .*row-level security/) as string,
  })
  await database.client.query(`ALTER ROLE ${role} BYPASSRLS`)
  await isEqual()
})
