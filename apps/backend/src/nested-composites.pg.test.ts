import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changeDdlTriggers } from '@moonlink/pg-source'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-nested-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess

beforeEach(async () => {
  database = await postgres.createDatabase()
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

test.each(['told', 'inferred'])('a composite that evolves within composites, arrays and domains: %s', async (way) => {
  const { client } = database
  await client.query(`CREATE TYPE part AS (n int, note text); CREATE DOMAIN parts AS part[]; CREATE DOMAIN one AS part;
    CREATE TYPE whole AS (first part, more part[], again parts); CREATE DOMAIN wholes AS whole[];
    CREATE TABLE nested (id int PRIMARY KEY, w whole, ws wholes, p one)`)
  if (way === 'told') await changeDdlTriggers(database.connectionString, 'install')
  const insert = async (id: number, part: string) => {
    const whole = `ROW(${part}, ARRAY[${part}, NULL]::part[], ARRAY[${part}]::parts)::whole`
    await client.query(`INSERT INTO nested VALUES (${id}, ${whole}, ARRAY[${whole}, NULL]::wholes, ${part}::one)`)
  }
  await insert(1, `ROW(1, 'a')::part`)
  const stateDir = join(directory, database.name)
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', stateDir], {
    MOONLINK_FLUSH_INTERVAL_MS: '60s',
  })
  const changes: [sql: string, part: string][] = [
    [`ADD ATTRIBUTE price numeric(9,2)`, `ROW(2, 'b', 2.50)::part`],
    [`DROP ATTRIBUTE note`, `ROW(3, 3.50)::part`],
    [`RENAME ATTRIBUTE n TO number`, `ROW(4, 4.50)::part`],
    [`ADD ATTRIBUTE note date[]`, `ROW(5, 5.50, '{2024-01-01,NULL}')::part`],
  ]
  for (const [index, [sql, part]] of changes.entries()) {
    await client.query(`ALTER TYPE part ${sql}`)
    await insert(index + 2, part)
    await backend.wait({ iceberg: index % 2 === 0 })
    await expectVerified(backend.url, directory, 'public.nested')
  }
  await backend.wait({ iceberg: true })
  await expectVerified(backend.url, directory, 'public.nested')
  const part = { number: 5, price: '5.50', note: ['2024-01-01', null] }
  const whole = { first: part, more: [part, null], again: [part] }
  expect(await backend.query('SELECT w, ws, p FROM public.nested WHERE id = 5')).toEqual([[whole, [whole, null], part]])
  expect(await backend.query('SELECT p, w.more FROM public.nested WHERE id = 1')).toEqual([
    [{ number: 1, price: null, note: null }, [{ number: 1, price: null, note: null }, null]],
  ])
})
