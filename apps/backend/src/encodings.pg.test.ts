import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changeDdlTriggers } from '@moonlink/pg-source'
import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { expectVerified } from './testing/verified.ts'

/** Databases in other encodings than UTF-8. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-encodings-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let backend: BackendProcess | undefined
const clients: pg.Client[] = []
afterEach(async () => {
  await backend?.stop('SIGKILL')
  for (const client of clients.splice(0)) await client.end()
})

async function databaseIn(encoding: string): Promise<{ client: pg.Client; connectionString: string }> {
  const { client: maker, connectionString: made } = await postgres.createDatabase()
  const name = `in_${encoding.toLowerCase()}`
  const provider = postgres.major < 15 ? '' : 'LOCALE_PROVIDER libc'
  await maker.query(`CREATE DATABASE ${name} ENCODING '${encoding}' LC_COLLATE 'C' LC_CTYPE 'C' ${provider} TEMPLATE template0`)
  const url = new URL(made)
  url.pathname = `/${name}`
  const client = new pg.Client(url.href)
  clients.push(client)
  await client.connect()
  return { client, connectionString: url.href }
}

async function start(connectionString: string, environment: Readonly<Record<string, string>> = {}): Promise<BackendProcess> {
  const stateDir = join(directory, new URL(connectionString).pathname)
  backend = await BackendProcess.start(['--source', connectionString, '--state-dir', stateDir], {
    MOONLINK_FLUSH_INTERVAL_MS: '60s',
    ...environment,
  })
  return backend
}

test('a database in LATIN1: values, and names that triggers tell of', async () => {
  const { client, connectionString } = await databaseIn('LATIN1')
  await changeDdlTriggers(connectionString, 'install')
  await client.query(`CREATE TYPE "größe" AS ENUM ('klein', 'groß'); CREATE TYPE "maß" AS ("länge" int, "höhe" text);
    CREATE TABLE "straße" (id int PRIMARY KEY, "größe" "größe", "übrig" text, m "maß"); INSERT INTO "straße" VALUES (1, 'groß', 'ä', ROW(1, 'ö'))`)
  const mirror = await start(connectionString)
  await expectVerified(mirror.url, directory, 'public.straße')
  await client.query(`INSERT INTO "straße" VALUES (2, 'klein', 'é', ROW(2, 'ñ'))`)
  await client.query(
    `ALTER TABLE "straße" ADD "später" text DEFAULT 'ß', ADD "für" text[] DEFAULT '{ü}'; ALTER TYPE "größe" ADD VALUE 'übergroß'; ALTER TYPE "maß" ADD ATTRIBUTE "tiefe ü" text`,
  )
  await client.query(`INSERT INTO "straße" VALUES (3, 'übergroß', 'ÿ', ROW(3, 'þ', 'ð'), 'x', '{é}')`)
  await mirror.wait()
  await expectVerified(mirror.url, directory, 'public.straße')
  expect(await mirror.query(`SELECT "später", "für", "größe", m FROM public."straße" ORDER BY id`)).toEqual([
    ['ß', ['ü'], 'groß', { länge: 1, höhe: 'ö', 'tiefe ü': null }],
    ['ß', ['ü'], 'klein', { länge: 2, höhe: 'ñ', 'tiefe ü': null }],
    ['x', ['é'], 'übergroß', { länge: 3, höhe: 'þ', 'tiefe ü': 'ð' }],
  ])
  expect((await mirror.table('public.straße')).reason).toBeNull()
})

test('a database without an encoding: text that is no UTF-8 pauses its table alone, with its row and the remedy, and the rest is mirrored', async () => {
  const { client, connectionString } = await databaseIn('SQL_ASCII')
  for (const name of ['good', 'copied', 'streamed', 'nulls'])
    await client.query(`CREATE TABLE ${name} (id int PRIMARY KEY, v text, parts text[], j jsonb)`)
  await client.query(`INSERT INTO good VALUES (1, 'ä', '{ö}', '{"k": "ü"}'); INSERT INTO streamed VALUES (1, 'x')`)
  await client.query(
    `INSERT INTO copied VALUES (1, 'x', ARRAY['y', E'\\xe4']); INSERT INTO nulls VALUES (1, E'caf\\xe9', ARRAY['y', E'\\xe4'], '{}')`,
  )
  const mirror = await start(connectionString, {
    MOONLINK_SOURCE_COLUMNS: JSON.stringify({ 'public.nulls': { v: { onUnfit: 'null' }, parts: { onUnfit: 'null' } } }),
  })
  await client.query(`INSERT INTO streamed VALUES (7, E'caf\\xe9'); INSERT INTO good VALUES (2, 'é')`)
  await client.query(`INSERT INTO nulls VALUES (2, 'é', ARRAY[E'\\xe4', 'z']), (3, E'\\xff', NULL)`)
  await mirror.wait().catch(() => undefined)
  expect(await mirror.query(`SELECT id, v, parts, j::text FROM public.good ORDER BY id`)).toEqual([
    [1, 'ä', ['ö'], '{"k": "ü"}'],
    [2, 'é', null, null],
  ])
  expect(await mirror.query(`SELECT id, v, parts FROM public.nulls ORDER BY id`)).toEqual([
    [1, null, ['y', null]],
    [2, 'é', [null, 'z']],
    [3, null, null],
  ])
  const { reason: copied } = await mirror.table('public.copied')
  expect(copied).toMatch(/column "parts" holds .* in the row with id=1, which is no UTF-8\. Change the value; or have null for such values/)
  const { state, reason: streamed } = await mirror.table('public.streamed')
  expect(state).toBe('paused')
  expect(streamed).toMatch(/column "v" holds caf. in the row with id=7, which is no UTF-8/)
  await client.query(`UPDATE streamed SET v = 'café' WHERE id = 7`)
  await mirror.post('/tables/public.streamed/resync', {})
  await mirror.wait()
  await expectVerified(mirror.url, directory, 'public.streamed')
  await expectVerified(mirror.url, directory, 'public.good')
})
