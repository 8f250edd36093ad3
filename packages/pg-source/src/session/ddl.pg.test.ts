import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { expect, test } from 'vitest'
import { ddlInstallSql, ddlUninstallSql } from './ddl-sql.ts'
import { follow, sourceState, type Following } from './harness.test.support.ts'
import { sorted } from './replica.test.support.ts'

/** Changes of shape, told by event triggers, within the transactions that make them. */
const postgres = withPostgres({ settings: { logical_decoding_work_mem: '64kB', max_prepared_transactions: '10' } })

async function database(sql: string) {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(sql)
  await client.query(ddlInstallSql)
  const following = await follow({ connection: connectionString, slot: await slotName(client) }, ['public.t'])
  return { client, connectionString, following }
}

async function slotName(client: { query: (sql: string) => Promise<{ rows: { name: string }[] }> }): Promise<string> {
  return (await client.query(`SELECT 'ddl_' || oid AS name FROM pg_database WHERE datname = current_database()`)).rows[0].name
}

async function expectEqual(client: Parameters<typeof sourceState>[0], { catchUp, replica }: Following): Promise<void> {
  await catchUp()
  expect(replica.otherEvents).toEqual([])
  expect(replica.missing).toEqual([])
  const [found, expected] = [sorted(replica.rowsOf('public.t')), await sourceState(client, 't')]
  if (found.join() !== expected.join()) expect(found.slice(0, 9)).toEqual(expected.slice(0, 9))
}

async function leave({ source }: Following): Promise<void> {
  await source.uninstall()
  await source.close()
}

const KEPT = [
  ['a column', `ALTER TABLE t ADD c int`],
  ['a column with a default', `ALTER TABLE t ADD c int DEFAULT 7, ADD d text DEFAULT 'it''s, {1}' NOT NULL, ADD e boolean DEFAULT true`],
  ['a column gone', `ALTER TABLE t DROP a`],
  ['a column renamed', `ALTER TABLE t RENAME a TO x`],
  ['two columns that swap their names', `ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b`],
  ['a column dropped and added again', `ALTER TABLE t DROP a; ALTER TABLE t ADD a text`],
  ['an integer widened', `ALTER TABLE t ALTER n TYPE bigint`],
  ['a float widened', `ALTER TABLE t ADD f float4; UPDATE t SET f = 0.1; ALTER TABLE t ALTER f TYPE float8`],
  ['a float with a default widened', `ALTER TABLE t ADD f float4 DEFAULT 0.1; ALTER TABLE t ALTER f TYPE float8`],
  ['no digits lost', `ALTER TABLE t ALTER p TYPE numeric(20,2)`],
  ['a longer varchar', `ALTER TABLE t ALTER v TYPE varchar(99)`],
  ['a varchar as text', `ALTER TABLE t ALTER v TYPE text`],
  ['not null, and null again', `ALTER TABLE t ALTER b SET NOT NULL; ALTER TABLE t ALTER n DROP NOT NULL`],
  ['another key', `ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (n)`],
  ['a replica identity', `ALTER TABLE t REPLICA IDENTITY FULL`],
  ['another identity', `CREATE UNIQUE INDEX other ON t (n, id); ALTER TABLE t REPLICA IDENTITY USING INDEX other`],
  ['a composite that grows', `ALTER TYPE pair ADD ATTRIBUTE z int`],
  ['a value of an enum', `ALTER TYPE mood ADD VALUE 'new'`],
] as const

const TABLE = `CREATE TYPE pair AS (x int, y text); CREATE TYPE mood AS ENUM ('sad', 'ok');
  CREATE TABLE t (id int PRIMARY KEY, a text, b text, n int NOT NULL, p numeric(10,2), v varchar(9), m mood)`
const insert = (id: number) => `INSERT INTO t (id, b, n) VALUES (${id}, 'b${id}', ${id})`

test.each(KEPT)('%s is followed where it is made', async (_, ddl) => {
  const { client, following } = await database(TABLE)
  const rows = (from: number) =>
    `${insert(from)}; UPDATE t SET b = b || '!' WHERE id = ${from}; ${insert(from + 1)}; DELETE FROM t WHERE id = ${from - 1}`
  try {
    await client.query(rows(1))
    for (const statement of ddl.split('; ')) await client.query(statement)
    await expectEqual(client, following)
    await client.query(rows(10))
    await expectEqual(client, following)
  } finally {
    await leave(following)
  }
})

test.each([
  ['m', `ALTER TYPE mood RENAME TO feeling`, 'feeling', 'text'],
  ['m', `ALTER TYPE mood RENAME TO "How, I feel"`, '"How, I feel"', 'text'],
  ['ms', `ALTER TYPE mood RENAME TO feeling`, 'feeling[]', 'text[]'],
])('what is said of column %s after %s has the type’s new name', async (column, rename, name, to) => {
  const { client, following } = await database(`${TABLE}; ALTER TABLE t ADD ms mood[]`)
  try {
    await client.query(`INSERT INTO t (id, n, m, ms) VALUES (1, 1, 'ok', '{sad}')`)
    await following.catchUp()
    await client.query(rename)
    await client.query(`ALTER TABLE t ALTER ${column} TYPE ${to}`)
    await following.catchUp()
    const reason = expect.stringContaining(`column "${column}" was converted from public.${name} to ${to}`) as string
    expect(following.replica.otherEvents).toContainEqual(expect.objectContaining({ kind: 'recopy', reason }))
  } finally {
    await leave(following)
  }
})

test('several changes and rows between them in one transaction, part of it rolled back', async () => {
  const { client, following } = await database(TABLE)
  try {
    await client.query(`BEGIN; ${insert(1)}; ALTER TABLE t ADD c int DEFAULT 5; ${insert(2)}; SAVEPOINT s; ALTER TABLE t RENAME c TO d; UPDATE t SET d = 6;
      ROLLBACK TO s; ALTER TABLE t RENAME b TO bb; INSERT INTO t (id, bb, n, c) VALUES (3, 'x', 3, 4); DELETE FROM t WHERE id = 1; COMMIT`)
    await expectEqual(client, following)
    expect(following.replica.schemas.get('public.t')!.fields.map(({ name }) => name)).toEqual(['id', 'a', 'bb', 'n', 'p', 'v', 'm', 'c'])
  } finally {
    await leave(following)
  }
})

test.each(['DROP INDEX other', 'DROP INDEX CONCURRENTLY other'])(
  '%s: nothing names rows any more, and more can be inserted',
  async (ddl) => {
    const { client, following } = await database(
      `${TABLE}; CREATE UNIQUE INDEX other ON t (n); ALTER TABLE t REPLICA IDENTITY USING INDEX other`,
    )
    try {
      await client.query(`${insert(1)}; UPDATE t SET n = 7`)
      await client.query(ddl)
      await expectEqual(client, following)
      expect(following.replica.schemas.get('public.t')!.identifierFieldIds).toEqual([])
      await client.query(insert(2))
      await client.query(`ALTER TABLE t REPLICA IDENTITY DEFAULT`)
      await client.query(`UPDATE t SET b = 'x' WHERE id = 1`)
      await expectEqual(client, following)
    } finally {
      await leave(following)
    }
  },
)

const bulk = (from: number) =>
  `INSERT INTO t (id, b, n) SELECT g, repeat(md5(g::text), 40), g FROM generate_series(${from}, ${from} + 500) g`

test('a change amid a transaction that is streamed in parts', async () => {
  const { client, following } = await database(TABLE)
  try {
    await client.query(
      `BEGIN; ${bulk(1000)}; ALTER TABLE t ADD c int DEFAULT 5; ${bulk(2000)}; ALTER TABLE t DROP a; ${bulk(3000)}; COMMIT`,
    )
    await expectEqual(client, following)
    // Which subtransaction made a change is not told.
    await client.query(`BEGIN; ${bulk(5000)}; SAVEPOINT s; ALTER TABLE t ADD d int; ${bulk(6000)}; ROLLBACK TO s; ${bulk(7000)}; COMMIT`)
    await following.catchUp()
    expect(following.replica.otherEvents).toMatchObject([{ kind: 'unmirrorable', code: 'SCHEMA_CHANGED' }])
  } finally {
    await leave(following)
  }
})

test('a change in a prepared transaction', async () => {
  const { client, following } = await database(TABLE)
  try {
    await client.query(`BEGIN; ALTER TABLE t ADD c int DEFAULT 5; INSERT INTO t (id, n, c) VALUES (1, 1, 1); PREPARE TRANSACTION 'p'`)
    await following.catchUp()
    await client.query(`COMMIT PREPARED 'p'`)
    await expectEqual(client, following)
  } finally {
    await leave(following)
  }
})

const STALE = [
  ['a volatile default', `ALTER TABLE t ADD c float8 DEFAULT random()`, 'a value of its own'],
  ['a serial', `ALTER TABLE t ADD c serial`, 'a value of its own'],
  ['a default beside another type', `ALTER TABLE t ADD c int DEFAULT 7, ALTER n TYPE bigint`, 'a value of its own'],
  ['a USING clause', `ALTER TABLE t ALTER n TYPE bigint USING n + 1`, 'rewritten'],
  ['a USING clause that keeps the type', `ALTER TABLE t ALTER n TYPE int USING n + 1`, 'rewritten'],
  ['a USING clause in a function', `DO $$ BEGIN EXECUTE 'ALTER TABLE t ALTER n TYPE bigint US' || 'ING n + 1'; END $$`, 'rewritten'],
  ['another type', `ALTER TABLE t ALTER n TYPE text`, 'none of'],
  ['another scale', `ALTER TABLE t ALTER p TYPE numeric(12,3)`, 'none of'],
  ['a shorter varchar', `ALTER TABLE t ALTER v TYPE varchar(3)`, 'converted'],
  ['a renamed value of an enum', `ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'`, 'renamed'],
  ['a default of an array', `ALTER TABLE t ADD c int[] DEFAULT '{1,2}'`, "can't hold"],
] as const

test.each(STALE)('%s starts a new copy, and later rows have the new shape', async (_, ddl, reason) => {
  const { client, following } = await database(TABLE)
  const { replica } = following
  try {
    await client.query(insert(1))
    await client.query(ddl)
    await client.query(insert(2))
    await following.catchUp()
    expect(replica.otherEvents).toMatchObject([{ kind: 'recopy', code: 'SCHEMA_CHANGED' }])
    expect((replica.otherEvents[0] as { reason: string }).reason).toContain(reason)
    expect(sorted(replica.rowsOf('public.t'))).toHaveLength(2)
  } finally {
    await leave(following)
  }
})

const PARTED = `CREATE TABLE t (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
  CREATE TABLE t_a PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t_b PARTITION OF t FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
  CREATE TABLE t_b1 PARTITION OF t_b FOR VALUES IN (1, 2, 3); CREATE TABLE t_b2 PARTITION OF t_b DEFAULT;
  CREATE TABLE own (id int, at int, v text, PRIMARY KEY (id, at)); INSERT INTO own VALUES (7, 25, 'own')`
const parted = (id: number) => `INSERT INTO t VALUES (${id}, 5, 'a'), (${id}, 15, 'b')`

test.each([
  ['detached', `ALTER TABLE t DETACH PARTITION t_a; INSERT INTO t_a VALUES (50, 5); DELETE FROM t_a WHERE id = 1`],
  ['detached from a partition', `ALTER TABLE t_b DETACH PARTITION t_b2`],
  ['detached with its own partitions', `ALTER TABLE t DETACH PARTITION t_b`],
  ['dropped', `DROP TABLE t_a`],
  ['attached with rows', `ALTER TABLE t ATTACH PARTITION own FOR VALUES FROM (20) TO (30)`],
  [
    'away for a moment',
    `ALTER TABLE t DETACH PARTITION t_a; UPDATE t_a SET v = 'x'; ALTER TABLE t ATTACH PARTITION t_a FOR VALUES FROM (0) TO (10)`,
  ],
  ['there for a moment', `CREATE TABLE t_c PARTITION OF t FOR VALUES FROM (20) TO (30); INSERT INTO t VALUES (9, 25); DROP TABLE t_c`],
])('a partition that is %s starts a new copy of its table', async (_, sql) => {
  const { client, following } = await database(PARTED)
  try {
    await client.query(`${parted(1)}; ${parted(6)}`)
    await expectEqual(client, following)
    await client.query(sql)
    await following.catchUp()
    const [recopy, ...more] = following.replica.otherEvents
    expect(recopy).toMatchObject({
      kind: 'recopy',
      reason: expect.stringContaining('a partition was attached, detached or dropped') as unknown,
    })
    expect(more.every(({ kind }) => kind === 'recopy')).toBe(true)
  } finally {
    await leave(following)
  }
})

test('partitions that are made, and whatever leaves all partitions where they are, start no copy', async () => {
  const { client, following } = await database(PARTED)
  try {
    await client.query(parted(1))
    for (const sql of [
      `CREATE TABLE t_c PARTITION OF t FOR VALUES FROM (20) TO (30); INSERT INTO t VALUES (1, 25, 'c')`,
      `BEGIN; CREATE TABLE t_d PARTITION OF t FOR VALUES FROM (30) TO (40) PARTITION BY LIST (id); SAVEPOINT s;
        CREATE TABLE t_d1 PARTITION OF t_d DEFAULT; INSERT INTO t VALUES (1, 35, 'd'); COMMIT`,
      `CREATE TABLE other (id int) PARTITION BY LIST (id); CREATE TABLE other_1 PARTITION OF other DEFAULT; DROP TABLE other; DROP TABLE own`,
      `ALTER TABLE t ADD c int; ALTER TABLE t_a SET (fillfactor = 50); CREATE INDEX ON t (v); ALTER TABLE t RENAME v TO w`,
      'VACUUM FULL t_a',
      `TRUNCATE t; ${parted(2)}`,
      `BEGIN; SAVEPOINT s; ALTER TABLE t DETACH PARTITION t_a; ROLLBACK TO s; COMMIT; ${parted(3)}`,
    ]) {
      await client.query(sql)
      await expectEqual(client, following)
    }
  } finally {
    await leave(following)
  }
})

test.each([
  ['becomes a plain one', `ALTER TABLE t ALTER g DROP EXPRESSION`, 13],
  ['is generated otherwise', `ALTER TABLE t ALTER g SET EXPRESSION AS (id * 3)`, 17],
])('a generated column that %s does not show what it did not hold', async (_, ddl, since) => {
  const { client, following } = await database(`CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED)`)
  const { replica } = following
  try {
    const [{ version }] = (await client.query(`SELECT current_setting('server_version_num')::int / 10000 AS version`)).rows
    if (version < since) return
    await client.query(`INSERT INTO t (id) VALUES (1)`)
    await client.query(ddl)
    await client.query(`INSERT INTO t (id) VALUES (2)`)
    await following.catchUp()
    const isMirrored = replica.schemas.get('public.t')!.fields.some(({ name }) => name === 'g')
    const shown = sorted(replica.rowsOf('public.t')).join()
    const isEqual = !isMirrored || shown === (await sourceState(client, 't')).join()
    if (!isEqual) expect(replica.otherEvents).toMatchObject([{ kind: 'recopy', code: 'SCHEMA_CHANGED' }])
  } finally {
    await leave(following)
  }
})

test.each([
  ['dropped', `DROP TABLE t`, 'TABLE_DROPPED'],
  ['dropped with its schema’s owner', `DROP OWNED BY CURRENT_USER CASCADE`, 'TABLE_DROPPED'],
  ['renamed', `ALTER TABLE t RENAME TO other`, 'TABLE_RENAMED'],
  ['moved', `CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s`, 'TABLE_RENAMED'],
  ['in a schema that is renamed', `ALTER SCHEMA public RENAME TO s`, 'TABLE_RENAMED'],
])('a table that is %s says so at once', async (how, ddl, code) => {
  const { client, following } = await database(TABLE)
  if (how.startsWith('dropped with'))
    ddl = `CREATE ROLE gone_owner; ALTER TABLE t OWNER TO gone_owner; DROP OWNED BY gone_owner CASCADE; DROP ROLE gone_owner`
  try {
    const before = await following.catchUp()
    await client.query(ddl)
    const after = await following.catchUp()
    expect(following.replica.otherEvents).toMatchObject([{ kind: 'unmirrorable', code }])
    const [event] = following.replica.otherEvents
    const openLsn = event.kind === 'unmirrorable' ? (event.openLsn ?? null) : null
    // All that was committed before is there.
    expect(openLsn !== null && before <= openLsn && openLsn < after, String(openLsn)).toBe(true)
  } finally {
    await leave(following)
  }
})

test('a stream goes on in the shape that was kept, and takes no change twice', async () => {
  const { client, connectionString, following } = await database(TABLE)
  const { replica } = following
  const shapes: { schema: unknown; sourceState: string | null }[] = []
  const apply = replica.apply.bind(replica)
  replica.apply = (event) => {
    if (event.kind === 'schema') shapes.push(event.shape)
    apply(event)
  }
  await client.query(`ALTER TABLE t ADD c int DEFAULT 5`)
  await client.query(insert(1))
  const throughLsn = await following.catchUp()
  await following.close()
  await client.query(`ALTER TABLE t DROP c; ALTER TABLE t ADD c text DEFAULT 'new'; ALTER TABLE t RENAME b TO x`)
  await client.query(`INSERT INTO t (id, x, n, c) VALUES (2, 'x', 2, 'own')`)
  const shape = shapes.at(-1) as { schema: NonNullable<ReturnType<typeof replica.schemas.get>>; sourceState: string | null }
  replica.watermarkLsn = 0n
  const resume = [{ table: { schema: 'public', name: 't' }, shape, throughLsn }]
  const again = await follow(
    { connection: connectionString, slot: await slotName(client) },
    ['public.t'],
    undefined,
    replica,
    undefined,
    resume,
  )
  try {
    await expectEqual(client, again)
    expect(replica.schemas.get('public.t')!.fields.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5, 6, 7, 9])
  } finally {
    await leave(again)
  }
})

const UNTOLD = [
  ['a column dropped and added again', `ALTER TABLE t DROP a; ALTER TABLE t ADD a text`, ''],
  ['values computed anew', `ALTER TABLE t ALTER a TYPE text USING a || '!'`, ''],
  ['values computed anew, and then a change that is told', `ALTER TABLE t ALTER a TYPE text USING a || '!'`, `ALTER TABLE t ADD c int`],
] as const

test.each(UNTOLD.flatMap((change) => [[...change, 'goes on'] as const, [...change, 'begins anew'] as const]))(
  '%s, before the triggers were there, is noticed: %s; %s; a stream that %s',
  async (_, untold, told, how) => {
    const { client, connectionString } = await postgres.createDatabase()
    await client.query(TABLE)
    const config = { connection: connectionString, slot: await slotName(client) }
    const before = await follow(config, ['public.t'])
    await client.query(`INSERT INTO t (id, a, n) VALUES (1, 'a', 1)`)
    const throughLsn = await before.catchUp()
    const [listing] = await before.source.listTables()
    if (!listing.mirrorable) throw new Error(listing.reason)
    if (how === 'begins anew') await before.close()
    await client.query(untold)
    await client.query(ddlInstallSql)
    if (told !== '') await client.query(told)
    await client.query(insert(2))
    const resume = [{ table: listing.table, shape: listing, throughLsn }]
    const following = how === 'goes on' ? before : await follow(config, ['public.t'], throughLsn, undefined, undefined, resume)
    try {
      await following.catchUp()
      expect(following.replica.otherEvents).toMatchObject([{ kind: 'unmirrorable', code: 'SCHEMA_CHANGED' }])
      // Where it happened nobody told.
      expect(following.replica.otherEvents).toMatchObject([{ openLsn: undefined }])
    } finally {
      await leave(following)
    }
  },
)

test('a change of a table is told without waiting for who locks another partition', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(`CREATE TABLE t (id int, n int, PRIMARY KEY (id, n)) PARTITION BY LIST (n); CREATE TABLE other (LIKE t INCLUDING ALL);
    CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2) PARTITION BY RANGE (id);
    CREATE TABLE t21 PARTITION OF t2 FOR VALUES FROM (0) TO (9); CREATE TABLE t22 PARTITION OF t2 FOR VALUES FROM (10) TO (19)`)
  await client.query(ddlInstallSql)
  const holder = new pg.Client(connectionString)
  await holder.connect()
  const notices: unknown[] = []
  client.on('notice', ({ message }) => notices.push(message))
  try {
    await holder.query('BEGIN; DROP TABLE t22')
    await client.query(`SET lock_timeout = '2s'`)
    await client.query('ALTER TABLE t DETACH PARTITION t1')
    await client.query('ALTER TABLE t ATTACH PARTITION other FOR VALUES IN (3)')
    await client.query('CREATE TABLE t4 PARTITION OF t FOR VALUES IN (4)')
    await client.query('DROP TABLE t1')
    expect(notices).toEqual([])
  } finally {
    await holder.end()
  }
})

test('a change is told of also by a session that fires no other triggers', async () => {
  const { client, following } = await database(TABLE)
  try {
    await client.query(
      `${insert(1)}; SET session_replication_role = replica; ALTER TABLE t RENAME a TO x; ALTER TABLE t ADD c int DEFAULT 7; ${insert(2)}`,
    )
    await expectEqual(client, following)
    expect(following.replica.schemas.get('public.t')!.fields.map(({ name }) => name)).toEqual(['id', 'x', 'b', 'n', 'p', 'v', 'm', 'c'])
  } finally {
    await leave(following)
  }
})

test('the triggers are installed twice, and removed without a trace', async () => {
  const { client } = await postgres.createDatabase()
  const made = async () =>
    (
      await client.query<{ made: string }>(
        `SELECT (SELECT count(*) FROM pg_event_trigger) || ' ' || (SELECT count(*) FROM pg_namespace WHERE nspname = 'moonlink') AS made`,
      )
    ).rows[0].made
  await client.query(ddlInstallSql)
  await client.query(ddlInstallSql)
  expect(await made()).toBe('3 1')
  await client.query(`CREATE TEMP TABLE own (x int); CREATE ROLE nobody_else_ddl; GRANT CREATE ON SCHEMA public TO nobody_else_ddl; SET ROLE nobody_else_ddl;
    CREATE TABLE theirs (x int); ALTER TABLE theirs ADD y int; DROP TABLE theirs; RESET ROLE; DROP OWNED BY nobody_else_ddl; DROP ROLE nobody_else_ddl`)
  await client.query(ddlUninstallSql)
  await client.query(ddlUninstallSql)
  expect(await made()).toBe('0 0')
})
