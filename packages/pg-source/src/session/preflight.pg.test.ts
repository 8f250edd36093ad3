import { connect, createServer, type AddressInfo } from 'node:net'
import { isMoonlinkError, type MoonlinkError } from '@moonlink/core'
import { startPostgres } from '@moonlink/embedded-pg'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import pg from 'pg'
import { beforeEach, expect, test } from 'vitest'
import type { PgSourceConfig } from './config.ts'
import { tableOf } from './harness.test.support.ts'
import { openPgSource } from './source.ts'

const postgres = withPostgres({ settings: { max_slot_wal_keep_size: '1MB', max_wal_size: '32MB', min_wal_size: '32MB' } })
let database: TestDatabase
let count = 0
let slot: string

beforeEach(async () => {
  database = await postgres.createDatabase()
  slot = `slot_${++count}`
})

function urlWith(change: (url: URL) => void): string {
  const url = new URL(database.connectionString)
  change(url)
  return url.href
}

/** The error that `act` fails with; one line, of our kind. */
async function failure(act: () => Promise<unknown>): Promise<MoonlinkError> {
  const error = await act().then(
    () => null,
    (cause: unknown) => cause,
  )
  if (!isMoonlinkError(error)) throw new Error(`expected a MoonlinkError, got ${String(error)}`)
  expect(error.message).not.toContain('\n')
  expect(error.message).not.toContain(postgres.server.password)
  return error
}

async function opening(config: PgSourceConfig): Promise<MoonlinkError> {
  return failure(async () => {
    const source = await openPgSource(config)
    await source.close()
  })
}

/** A role of its own, with a source that connects as it. */
async function role(grants: string): Promise<{ name: string; connection: string }> {
  const name = `role_${count}`
  await database.client.query(`CREATE ROLE ${name} LOGIN PASSWORD 'secret' ${grants}`)
  return { name, connection: urlWith((url) => ((url.username = name), (url.password = 'secret'))) }
}

test.each<[string, string, () => string, RegExp]>([
  ['a port where nothing listens', 'PG_UNREACHABLE', () => urlWith((url) => (url.port = '1')), /127\.0\.0\.1:1.*Check host and port/],
  ['a host that does not exist', 'PG_UNREACHABLE', () => 'postgres://u:p@no-such-host.invalid/db?sslmode=disable', /no-such-host\.invalid/],
  ['a socket that is not there', 'PG_UNREACHABLE', () => 'postgres://u:p@%2Fno%2Fsuch%2Fdir/db', /\/no\/such\/dir/],
  ['a wrong password', 'PG_AUTH', () => urlWith((url) => (url.password = 'wrong')), /password of user "postgres"/],
  ['no such database', 'PG_DATABASE_MISSING', () => urlWith((url) => (url.pathname = '/nowhere')), /no database "nowhere"/],
  ['no TLS where it is required', 'PG_TLS', () => urlWith((url) => (url.search = 'sslmode=verify-full')), /sslmode=disable/],
  ['an unknown parameter', 'PG_CONNECTION_STRING', () => urlWith((url) => (url.search = 'sslmod=require')), /"sslmod"/],
  ['a string of another kind', 'PG_CONNECTION_STRING', () => 'mysql://localhost/db', /postgres:\/\//],
])('%s is %s', async (_, code, connection, message) => {
  const error = await opening({ connection: connection(), slot })
  expect(error.code).toBe(code)
  expect(error.message).toMatch(message)
})

test('a connection that is given up is closed, not left for the server to close', async () => {
  const closed = Promise.withResolvers<void>()
  const proxy = createServer((socket) => {
    const { hostname, port } = new URL(database.connectionString)
    const server = connect(Number(port), hostname)
    socket.pipe(server).pipe(socket)
    socket
      .on('error', () => undefined)
      .on('end', () => closed.resolve())
      .on('close', () => server.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const through = urlWith((url) => ((url.port = String((proxy.address() as AddressInfo).port)), (url.password = '')))
  const error = await opening({ connection: `${through}?sslmode=disable`, slot })
  expect(error).toMatchObject({ code: 'PG_AUTH', message: expect.stringMatching(/wants a password/) as string })
  await closed.promise
  await new Promise((resolve) => proxy.close(resolve))
}, 20_000)

test('a server whose wal_level is too low is told how to raise it', async () => {
  const server = await startPostgres({ settings: { wal_level: 'replica' } })
  try {
    const error = await opening({ connection: server.connectionString })
    expect(error.code).toBe('PG_WAL_LEVEL')
    expect(error.message).toContain('ALTER SYSTEM SET wal_level = logical')
  } finally {
    await server.stop()
  }
})

test('slots and senders that ran out are named', async () => {
  const server = await startPostgres({ settings: { max_replication_slots: '1', max_wal_senders: '1' } })
  const client = new pg.Client(server.connectionString)
  try {
    await client.connect()
    expect((await opening({ connection: server.connectionString })).code).toBe('PG_SLOTS_EXHAUSTED')
    const hog = new pg.Client({ connectionString: server.connectionString, replication: 'database' } as pg.ClientConfig)
    await hog.connect()
    const error = await opening({ connection: server.connectionString })
    expect([error.code, error.kind]).toEqual(['PG_SENDERS_EXHAUSTED', 'retry'])
    expect(error.message).toContain('max_wal_senders')
    await hog.end()
  } finally {
    await client.end()
    await server.stop()
  }
})

test('missing privileges are named with the statement that grants them', async () => {
  const { client } = database
  const plain = await role('')
  const noReplication = await opening({ connection: plain.connection, slot })
  expect(noReplication.code).toBe('PG_REPLICATION_PRIVILEGE')
  expect(noReplication.message).toContain(`ALTER ROLE "${plain.name}" REPLICATION`)

  await client.query(`ALTER ROLE ${plain.name} REPLICATION`)
  const noCreate = await opening({ connection: plain.connection, slot })
  expect(noCreate.code).toBe('PG_CREATE_PRIVILEGE')
  expect(noCreate.message).toContain('GRANT CREATE ON DATABASE')

  await client.query(`GRANT CREATE ON DATABASE ${database.name} TO ${plain.name}; CREATE TABLE items (id int PRIMARY KEY)`)
  const source = await openPgSource({ connection: plain.connection, slot })
  const [listing] = await source.listTables()
  expect(listing).toMatchObject({ mirrorable: false, code: 'PG_SELECT_PRIVILEGE' })
  expect(listing).toHaveProperty('reason', expect.stringContaining(`GRANT SELECT ON "public"."items" TO "${plain.name}"`))

  await client.query(`GRANT SELECT ON items TO ${plain.name}`)
  const notOwner = await failure(() => source.prepare([tableOf('public.items')]))
  expect(notOwner.code).toBe('PG_TABLE_OWNER')
  expect(notOwner.message).toContain('public.items')

  // Made by somebody who may, the publication serves a role that may not change it.
  await client.query('CREATE PUBLICATION moonlink_pub FOR TABLE items')
  await source.prepare([tableOf('public.items')])
  await client.query('CREATE TABLE more (id int PRIMARY KEY)')
  await client.query(`GRANT SELECT ON more TO ${plain.name}`)
  const foreign = await failure(() => source.prepare([tableOf('public.items'), tableOf('public.more')]))
  expect(foreign.code).toBe('TABLE_UNPUBLISHED')
  expect(foreign.message).toContain('ALTER PUBLICATION "moonlink_pub" ADD TABLE ONLY "public"."more"')

  await client.query(`ALTER TABLE items ENABLE ROW LEVEL SECURITY`)
  expect((await source.listTables([tableOf('public.items')]))[0]).toMatchObject({
    mirrorable: false,
    reason: expect.stringContaining('BYPASSRLS') as string,
  })
  await source.close()
})

test('slots of others, and lost ones, are not touched', async () => {
  const { client } = database
  await client.query('SELECT pg_create_physical_replication_slot($1)', [`${slot}_p`])
  expect((await opening({ connection: database.connectionString, slot: `${slot}_p` })).code).toBe('PG_SLOT_FOREIGN')

  await client.query('SELECT pg_create_logical_replication_slot($1, $2)', [slot, 'pgoutput'])
  const other = await postgres.createDatabase()
  const error = await opening({ connection: other.connectionString, slot })
  expect(error.code).toBe('PG_SLOT_FOREIGN')
  expect(error.message).toContain(database.name)

  await client.query('CREATE TABLE filler (t text)')
  for (let round = 0; round < 8; round++) {
    await client.query(`INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 1000)`)
    await client.query('SELECT pg_switch_wal()')
  }
  await client.query('CHECKPOINT')
  const lost = await opening({ connection: database.connectionString, slot })
  expect(lost.code).toBe('PG_SLOT_LOST')
  expect(lost.message).toContain(slot)
})

test('a publication that lacks an operation is refused', async () => {
  await database.client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text); CREATE PUBLICATION moonlink_pub FOR TABLE items WITH (publish = 'insert, update')`,
  )
  expect((await opening({ connection: database.connectionString, slot })).code).toBe('PG_PUBLICATION_OPERATIONS')
})

test('a wrong key of the configuration is named', async () => {
  const error = await opening({ connection: database.connectionString, slot: 'Not a slot' })
  expect(error.code).toBe('PG_CONFIG')
  expect(error.message).toContain('slot')
})
