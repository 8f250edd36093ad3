import { execFileSync } from 'node:child_process'
import { chmod, chown, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMoonlinkError } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { follow, tableOf } from './harness.test.support.ts'
import { openPgSource } from './source.ts'

/** Makes the certificate; without it the tests are skipped. */
const OPENSSL = 'openssl'
const hasOpenssl = (() => {
  try {
    execFileSync(OPENSSL, ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

const postgres = withPostgres()
let dir: string
let certificate: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'moonlink-tls-'))
  if (!hasOpenssl) return
  const { dataDir } = postgres.server
  const key = join(dataDir, 'server.key')
  certificate = join(dataDir, 'server.crt')
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  execFileSync(OPENSSL, ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', certificate, ...names], {
    stdio: 'ignore',
  })
  const { uid, gid } = await stat(dataDir)
  for (const file of [key, certificate]) await chown(file, uid, gid)
  await chmod(key, 0o600)
  const { client } = await postgres.createDatabase()
  await client.query('ALTER SYSTEM SET ssl = on')
  await client.query('SELECT pg_reload_conf()')
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const url = (connectionString: string, host: string, parameters: string) => {
  const address = new URL(connectionString)
  address.hostname = host
  address.search = parameters
  return address.href
}

test.runIf(hasOpenssl)('sslmode means what it means to libpq', async () => {
  const { connectionString, client } = await postgres.createDatabase()
  const attempt = async (host: string, parameters: string) => {
    try {
      const source = await openPgSource({ connection: url(connectionString, host, parameters), slot: 'tls_modes' })
      const { rows } = await client.query<{ ssl: boolean }>(
        `SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'moonlink catalog'`,
      )
      await source.close()
      return rows[0]?.ssl === true ? 'encrypted' : 'open'
    } catch (error) {
      if (isMoonlinkError(error)) return error.code
      throw error
    }
  }
  const root = `sslrootcert=${encodeURIComponent(certificate)}`
  expect(await attempt('localhost', '')).toBe('encrypted')
  expect(await attempt('localhost', 'sslmode=disable')).toBe('open')
  expect(await attempt('localhost', 'sslmode=require')).toBe('encrypted')
  expect(await attempt('localhost', 'sslmode=verify-full')).toBe('PG_TLS')
  expect(await attempt('localhost', `sslmode=verify-full&${root}`)).toBe('encrypted')
  expect(await attempt('127.0.0.1', `sslmode=verify-full&${root}`)).toBe('PG_TLS')
  expect(await attempt('127.0.0.1', `sslmode=verify-ca&${root}`)).toBe('encrypted')
})

test.runIf(hasOpenssl)('stream and copy run over TLS', async () => {
  const { connectionString, client } = await postgres.createDatabase()
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, body text); INSERT INTO items SELECT n, repeat('x', 500) FROM generate_series(1, 3000) n`,
  )
  const following = await follow({ connection: url(connectionString, 'localhost', 'sslmode=require'), slot: 'tls_stream' }, [
    'public.items',
  ])
  const [listing] = await following.source.listTables()
  const schema = listing?.mirrorable ? listing.schema : { fields: [], identifierFieldIds: [] }
  const copy = await following.source.copy([{ table: tableOf('public.items'), schema }], new AbortController().signal)
  await copy.read(tableOf('public.items'), async (rows) => following.replica.addCopied('public.items', rows))
  await copy.close()
  await client.query(`INSERT INTO items SELECT n, repeat('y', 500) FROM generate_series(3001, 6000) n`)
  await following.catchUp()
  expect(new Set(following.replica.rowsOf('public.items').map((row) => row['id'])).size).toBe(6000)
  await following.close()
})
