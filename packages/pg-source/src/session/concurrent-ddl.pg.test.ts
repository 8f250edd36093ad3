import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { afterEach, expect, test } from 'vitest'
import { ddlInstallSql } from './ddl-sql.ts'
import { follow, selectRows, tableOf, type Following } from './harness.test.support.ts'
import { isSameRelation } from './relation-shape.ts'
import { decodeSourceState } from './source-state.ts'

/**
 * Changes of schema in two transactions that are open at the same time. A change of a type does not lock the tables that use it, so both may be about one
 * table.
 */
const postgres = withPostgres()

const TABLES = `CREATE TYPE pair AS (x int, y text); CREATE TYPE other AS (v int, p pair); CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE size AS ENUM ('small');
  CREATE TABLE u (id int PRIMARY KEY, n int);
  CREATE TABLE t (id int PRIMARY KEY, a text, m mood, p pair, r u, o other)`

const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of open.splice(0).reverse()) await end()
})

async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client(connectionString)
  await client.connect()
  // Neither waits for the other, or the test does not show what it says.
  await client.query(`SET lock_timeout = '5s'`)
  return client
}

interface Scene {
  readonly client: pg.Client
  readonly first: pg.Client
  readonly second: pg.Client
  readonly following: Following
  readonly states: (string | null)[]
}

async function scene(): Promise<Scene> {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(TABLES)
  await client.query(ddlInstallSql)
  const [{ name }] = (
    await client.query<{ name: string }>(`SELECT 'both_' || oid AS name FROM pg_database WHERE datname = current_database()`)
  ).rows
  const following = await follow({ connection: connectionString, slot: name }, ['public.t'])
  const sessions = [await connect(connectionString), await connect(connectionString)]
  open.push(async () => {
    for (const session of sessions) await session.end()
    await following.source.uninstall()
    await following.close()
  })
  const { replica } = following
  const states: (string | null)[] = []
  const apply = replica.apply.bind(replica)
  replica.apply = (event) => {
    if (event.kind === 'schema') states.push(event.shape.sourceState)
    apply(event)
  }
  return { client, first: sessions[0], second: sessions[1], following, states }
}

async function expectEqual({ client, following: { catchUp, replica, source }, states }: Scene): Promise<void> {
  await catchUp()
  expect(replica.otherEvents).toEqual([])
  const texts = (rows: readonly Readonly<Record<string, string | null>>[]) => rows.map(({ id, m }) => `${id} ${m}`).sort()
  expect(texts(replica.rowsOf('public.t'))).toEqual(texts(await selectRows(client, 't')))
  const [listing] = await source.listTables([tableOf('public.t')])
  if (!listing?.mirrorable) throw new Error(listing?.reason)
  const [found, expected] = [states.at(-1)!, listing.sourceState].map((state) => {
    const { relation } = decodeSourceState(state)!
    return { ...relation, columns: relation.columns.map((column) => ({ ...column, typeName: '' })) }
  })
  expect(isSameRelation(found, expected), JSON.stringify({ found, expected })).toBe(true)
}

// Postgres itself keeps two from changing one composite, or using it in a new column meanwhile.
const PAIRS = [
  ['a composite and a table', `ALTER TYPE pair ADD ATTRIBUTE z int`, `ALTER TABLE t ADD c int DEFAULT 5`],
  ['a composite within another and a table', `ALTER TYPE pair DROP ATTRIBUTE y`, `ALTER TABLE t DROP a`],
  ['an enum and a table', `ALTER TYPE mood ADD VALUE 'new'`, `ALTER TABLE t RENAME a TO b`],
  ['an enum and its first column', `ALTER TYPE size ADD VALUE 'big'`, `ALTER TABLE t ADD z size[]`],
  ['an enum and a composite', `ALTER TYPE size ADD VALUE 'big'`, `ALTER TYPE pair ADD ATTRIBUTE z size`],
  ['a table whose rows are values of the other', `ALTER TABLE u ADD z size`, `ALTER TABLE t DROP a`],
  ['a type’s name and a table', `ALTER TYPE mood RENAME TO feeling`, `ALTER TABLE t ADD c int`],
] as const

test.each(PAIRS.flatMap((pair) => [[...pair, 'first'] as const, [...pair, 'second'] as const]))(
  'changes of %s, made at the same time, both count: %s; %s; the %s commits first',
  async (_, one, other, earlier) => {
    const now = await scene()
    const { client, first, second } = now
    await client.query(`INSERT INTO t (id, m, p, r) VALUES (1, 'ok', '(1,a)', '(1,2)')`)
    await first.query(`BEGIN; ${one}`)
    await second.query(`BEGIN; ${other}`)
    for (const session of earlier === 'first' ? [first, second] : [second, first]) await session.query('COMMIT')
    await client.query(`INSERT INTO t (id, m) VALUES (2, 'sad'); UPDATE t SET m = 'sad' WHERE id = 1`)
    await expectEqual(now)
  },
)

test('a transaction that does not see what was committed before is not taken at its word', async () => {
  const now = await scene()
  const { client, first, following } = now
  await client.query(`ALTER TABLE t ADD b int`)
  await first.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1')
  await client.query(`ALTER TABLE t ADD c int DEFAULT 5`)
  await first.query(`ALTER TABLE t ADD d int; COMMIT`)
  await following.catchUp()
  expect(following.replica.otherEvents).toMatchObject([{ kind: 'unmirrorable', code: 'SCHEMA_CHANGED' }])
})

test('nor is one that began before the mirror', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(TABLES)
  await client.query(ddlInstallSql)
  const old = await connect(connectionString)
  await old.query('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1')
  await client.query(`ALTER TABLE t ADD c int DEFAULT 5`)
  const following = await follow({ connection: connectionString, slot: 'both_old' }, ['public.t'])
  open.push(async () => {
    await old.end()
    await following.source.uninstall()
    await following.close()
  })
  await old.query(`ALTER TABLE t ADD d int; COMMIT`)
  await following.catchUp()
  expect(following.replica.otherEvents).toMatchObject([{ kind: 'unmirrorable', code: 'SCHEMA_CHANGED' }])
})

test.each(['REPEATABLE READ', 'SERIALIZABLE'])('%s transactions that see everything are followed', async (level) => {
  const now = await scene()
  const { client, first } = now
  const change = async (sql: string) => first.query(`BEGIN ISOLATION LEVEL ${level}; ${sql}; COMMIT`)
  await change(`ALTER TABLE t ADD c int DEFAULT 5`)
  await change(`ALTER TYPE pair ADD ATTRIBUTE z int`)
  await client.query(`INSERT INTO t (id, p) VALUES (1, '(1,a,2)')`)
  await change(`ALTER TABLE t DROP a`)
  await change(`ALTER TYPE mood ADD VALUE 'new'`)
  await client.query(`INSERT INTO t (id, m) VALUES (2, 'new')`)
  await expectEqual(now)
})
