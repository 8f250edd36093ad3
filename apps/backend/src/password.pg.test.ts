import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-password-'))
let backend: BackendProcess | undefined
afterEach(async () => {
  await backend?.stop('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

test('a password that is changed while the mirror runs is said, and the mirror goes on once it knows the new one', async () => {
  const database = await postgres.createDatabase()
  await database.client.query(`CREATE ROLE rotating LOGIN SUPERUSER PASSWORD 'first'; CREATE TABLE items (id int PRIMARY KEY)`)
  const passfile = join(directory, 'pgpass')
  const know = (password: string) => writeFileSync(passfile, `*:*:*:rotating:${password}\n`, { mode: 0o600 })
  know('first')
  const source = new URL(database.connectionString)
  source.username = 'rotating'
  source.password = ''
  backend = await BackendProcess.start(['--source', source.href, '--state-dir', join(directory, 'state')], { PGPASSFILE: passfile })
  await database.client.query(`ALTER ROLE rotating PASSWORD 'second'`)
  await database.client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'`)
  await database.client.query('INSERT INTO items VALUES (1)')
  await expect.poll(async () => (await backend!.status()).source.reason).toMatch(/PG_AUTH .*password of user "rotating"/)
  know('second')
  await backend.wait()
  expect(await backend.query('SELECT id FROM public.items')).toEqual([[1]])
  expect(await backend.stop()).toBe(0)
})
