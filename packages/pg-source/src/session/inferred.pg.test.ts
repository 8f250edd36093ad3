import type { ResumePoint, SourceEvent, TableShape } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { follow, sourceState, type Following } from './harness.test.support.ts'
import { Replica, sorted } from './replica.test.support.ts'

/** Changes of shape that nothing tells: what the stream describes otherwise than before, and what the catalog says by then. */
const postgres = withPostgres({ settings: { logical_decoding_work_mem: '64kB', max_prepared_transactions: '10' } })

type Client = Awaited<ReturnType<typeof postgres.createDatabase>>['client']

const TABLES = ['t', 'u', 'w'] as const

class Untold {
  readonly client: Client
  private readonly connection: string
  private readonly shapes = new Map<string, TableShape>()
  private following!: Following

  private constructor(client: Client, connection: string) {
    this.client = client
    this.connection = connection
  }

  /** Three tables of one kind, empty and followed. */
  static async create(columns: string, types = '', partitions: readonly string[] = []): Promise<Untold> {
    const { client, connectionString } = await postgres.createDatabase()
    await client.query(types)
    const untold = new Untold(client, connectionString)
    const how = partitions.length > 0 ? 'PARTITION BY RANGE (id)' : ''
    for (const table of TABLES) await untold.run(table, `CREATE TABLE t (${columns}) ${how}`, ...partitions)
    await untold.follow(new Replica(), [])
    const listed = await untold.following.source.listTables(TABLES.map((name) => ({ schema: 'public', name })))
    for (const listing of listed) if (listing.mirrorable) untold.shapes.set(listing.table.name, listing)
    return untold
  }

  private async follow(replica: Replica, resume: readonly ResumePoint[]): Promise<void> {
    const { rows } = await this.client.query<{ name: string }>(
      `SELECT 'inferred_' || oid AS name FROM pg_database WHERE datname = current_database()`,
    )
    const config = { connection: this.connection, slot: rows[0].name }
    const apply = replica.apply.bind(replica)
    replica.apply = (event) => {
      if (event.kind === 'schema') this.shapes.set(event.table.name, event.shape)
      apply(event)
    }
    this.following = await follow(
      config,
      TABLES.map((table) => `public.${table}`),
      undefined,
      replica,
      undefined,
      resume,
    )
  }

  /** Runs statements that are written for table t, each a transaction of its own. */
  async run(table: string, ...statements: readonly string[]): Promise<void> {
    for (const statement of statements) await this.client.query(statement.replaceAll(/\bt(?=\b|_)/g, table))
  }

  async catchUp(): Promise<SourceEvent[]> {
    await this.following.catchUp()
    return this.following.replica.otherEvents
  }

  async expectEqual(): Promise<void> {
    const { replica } = this.following
    expect(await this.catchUp()).toEqual([])
    expect(replica.missing).toEqual([])
    for (const table of TABLES) {
      const [found, expected] = [sorted(replica.rowsOf(`public.${table}`)), await sourceState(this.client, table)]
      if (found.join() !== expected.join()) expect({ table, rows: found.slice(0, 9) }).toEqual({ table, rows: expected.slice(0, 9) })
    }
  }

  changesInCatalog() {
    return this.following.source.publicationChanges()
  }

  fields(table: string): [number, string][] {
    return this.shapes.get(table)!.schema.fields.map(({ id, name }) => [id, name])
  }

  /** Stops, does something, and goes on where it stood. */
  async away(meanwhile: () => Promise<void>): Promise<void> {
    const { replica, source } = this.following
    const throughLsn = await this.following.catchUp()
    await source.close()
    replica.watermarkLsn = 0n
    await meanwhile()
    await this.follow(
      replica,
      Array.from(this.shapes, ([name, shape]) => ({ table: { schema: 'public', name }, shape, throughLsn })),
    )
  }

  async leave(): Promise<void> {
    const { source } = this.following
    try {
      await source.uninstall()
    } finally {
      await source.close()
    }
  }
}

const TYPES = `CREATE TYPE pair AS (x int, y text); CREATE TYPE mood AS ENUM ('sad', 'ok')`
const COLUMNS = `id int PRIMARY KEY, a text, b text, n int NOT NULL, p numeric(10,2), v varchar(9), m mood, q pair`
const insert = (id: number) => `INSERT INTO t (id, n) VALUES (${id}, ${id})`
const rows = (from: number) => [
  insert(from),
  `UPDATE t SET v = coalesce(v, '') || '!' WHERE id = ${from}`,
  insert(from + 1),
  `DELETE FROM t WHERE id = ${from - 1}`,
]
const first = [...rows(1), `UPDATE t SET a = 'a' || id, b = 'b', m = 'sad'`]

const FOLLOWED = [
  ['a column', `ALTER TABLE t ADD c int`],
  ['a column with a default', `ALTER TABLE t ADD c int DEFAULT 7, ADD d text DEFAULT 'it''s, {1}' NOT NULL, ADD e boolean DEFAULT true`],
  ['a column whose default went again', `ALTER TABLE t ADD c int DEFAULT 7; ALTER TABLE t ALTER c DROP DEFAULT`],
  ['a column gone', `ALTER TABLE t DROP a`],
  ['two columns gone', `ALTER TABLE t DROP b, DROP p`],
  ['a column renamed', `ALTER TABLE t RENAME a TO x`],
  ['two columns that swap their names', `ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b`],
  ['a column renamed, and another under its name', `ALTER TABLE t RENAME a TO x; ALTER TABLE t ADD a text DEFAULT 'new'`],
  ['more digits', `ALTER TABLE t ALTER p TYPE numeric(20,2)`],
  ['a longer varchar', `ALTER TABLE t ALTER v TYPE varchar(99)`],
  ['a varchar as text', `ALTER TABLE t ALTER v TYPE text`],
  ['nulls', `ALTER TABLE t ALTER n DROP NOT NULL, ALTER a SET DEFAULT 'a'; INSERT INTO t (id) VALUES (-1)`],
  ['no nulls', `ALTER TABLE t ALTER b SET DEFAULT 'b'; UPDATE t SET b = ''; ALTER TABLE t ALTER b SET NOT NULL`],
  ['another key', `ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (n)`],
  ['a replica identity', `ALTER TABLE t REPLICA IDENTITY FULL`],
  ['a value of an enum', `ALTER TYPE mood ADD VALUE IF NOT EXISTS 'new'`],
  ['a default in a table emptied before', `TRUNCATE t; ALTER TABLE t ADD c int DEFAULT 3`],
] as const

/** By itself, among rows of one transaction, and after a stop. */
async function expectFollowed(ddl: string, ...created: Parameters<typeof Untold.create>): Promise<void> {
  const untold = await Untold.create(...created)
  const changes = ddl.split('; ')
  try {
    for (const table of TABLES) await untold.run(table, ...first)
    await untold.run('t', ...changes, ...rows(10))
    await untold.run('u', 'BEGIN', ...rows(10), ...changes, ...rows(20), 'COMMIT')
    await untold.expectEqual()
    await untold.away(() => untold.run('w', ...rows(10), ...changes, ...rows(20)))
    for (const table of TABLES) await untold.run(table, ...rows(30))
    await untold.expectEqual()
  } finally {
    await untold.leave()
  }
}

test.each(FOLLOWED)('%s: followed in its place, by itself, among rows of one transaction, and after a stop', (_, ddl) =>
  expectFollowed(ddl, COLUMNS, TYPES),
)

test.each(['TRUNCATE t', 'VACUUM FULL t'])(
  'a change after %s and a row, also where the stream began anew between them',
  async (rewrite) => {
    const untold = await Untold.create(COLUMNS, TYPES)
    try {
      await untold.run('t', ...first)
      await untold.expectEqual()
      await untold.run('t', rewrite, ...rows(10))
      await untold.expectEqual()
      await untold.away(() => untold.run('t', 'ALTER TABLE t ADD c int', ...rows(20)))
      await untold.expectEqual()
    } finally {
      await untold.leave()
    }
  },
)

test('each of several changes, seen long after', async () => {
  const untold = await Untold.create(COLUMNS, TYPES)
  try {
    for (const table of TABLES) await untold.run(table, ...first)
    await untold.away(async () => {
      await untold.run(
        't',
        `ALTER TABLE t ADD c int DEFAULT 5`,
        ...rows(10),
        `ALTER TABLE t ADD d text DEFAULT 'd'`,
        ...rows(20),
        `ALTER TABLE t RENAME a TO x`,
      )
      await untold.run(
        'u',
        `ALTER TABLE u RENAME a TO x`,
        ...rows(10),
        `ALTER TABLE t RENAME b TO a`,
        ...rows(20),
        `ALTER TABLE t ALTER v TYPE text`,
        ...rows(30),
      )
      await untold.run('w', ...rows(10), `ALTER TABLE w DROP a`, ...rows(20))
    })
    await untold.run('t', ...rows(40))
    await untold.expectEqual()
    await untold.run('t', `ALTER TABLE t DROP c`, ...rows(50))
    await untold.run('u', `ALTER TABLE u ADD c int`, ...rows(50))
    await untold.run('w', `ALTER TABLE t ADD a int DEFAULT 7`, ...rows(50))
    await untold.expectEqual()
    expect(untold.fields('t').map(([id, name]) => `${id} ${name}`)).toEqual([
      '1 id',
      '2 x',
      '3 b',
      '4 n',
      '5 p',
      '6 v',
      '7 m',
      '8 q',
      '10 d',
    ])
  } finally {
    await untold.leave()
  }
})

test('columns that came and went by turns, and how rows were named in between, seen long after', async () => {
  const untold = await Untold.create(COLUMNS, TYPES)
  try {
    for (const table of TABLES) await untold.run(table, ...first)
    await untold.run('w', `CREATE UNIQUE INDEX t_n ON t (n)`, `ALTER TABLE t REPLICA IDENTITY USING INDEX t_n`, ...rows(3))
    await untold.expectEqual()
    await untold.away(async () => {
      await untold.run('t', `ALTER TABLE t DROP a, DROP b`, ...rows(20), `ALTER TABLE t ADD c int DEFAULT 5`, ...rows(30))
      await untold.run('t', `ALTER TABLE t RENAME c TO a`)
      await untold.run('u', `ALTER TABLE t ADD c int DEFAULT 5`, ...rows(10), `ALTER TABLE t DROP a`, ...rows(20))
      await untold.run('w', `ALTER TABLE t REPLICA IDENTITY FULL`, ...rows(10), `ALTER TABLE t REPLICA IDENTITY DEFAULT`, ...rows(20))
      await untold.run('w', `ALTER TABLE t REPLICA IDENTITY USING INDEX t_n`)
    })
    for (const table of TABLES) await untold.run(table, ...rows(40))
    await untold.expectEqual()
  } finally {
    await untold.leave()
  }
})

const PARTITIONS = [`CREATE TABLE t_a PARTITION OF t FOR VALUES FROM (0) TO (20)`, `CREATE TABLE t_b PARTITION OF t DEFAULT`]
const IN_PARTITIONS = new Set([
  'a column gone',
  'a column renamed',
  'more digits',
  'a longer varchar',
  'a varchar as text',
  'nulls',
  'no nulls',
])

test.each(FOLLOWED.filter(([name]) => IN_PARTITIONS.has(name)))('%s: followed in its place where partitions are not rewritten', (_, ddl) =>
  expectFollowed(ddl, COLUMNS, TYPES, PARTITIONS),
)

test('what partitions hold is not decided where they were rewritten, or others came', async () => {
  const untold = await Untold.create(COLUMNS, TYPES, PARTITIONS)
  const refused = (reason: string) => ({ kind: 'unmirrorable', code: 'SCHEMA_CHANGED', reason: expect.stringContaining(reason) as unknown })
  try {
    for (const table of TABLES) await untold.run(table, ...first)
    await untold.run('t', `ALTER TABLE t ADD c int DEFAULT 5`, insert(10))
    expect(await untold.catchUp()).toMatchObject([refused('values of its own')])
    await untold.run('u', `ALTER TABLE t ALTER v TYPE varchar(9) USING v || '?'`, insert(10))
    expect(await untold.catchUp()).toMatchObject([refused('values of its own'), refused('rewritten')])
    await untold.away(() =>
      untold.run('w', `CREATE TABLE t_c PARTITION OF t FOR VALUES FROM (70) TO (80)`, `ALTER TABLE t RENAME a TO x`, insert(72)),
    )
    expect((await untold.catchUp()).at(-1)).toMatchObject(refused('column "x" was altered and the table rewritten'))
  } finally {
    await untold.leave()
  }
})

test('what partitions hold is not decided where one was away in between', async () => {
  const untold = await Untold.create(COLUMNS, TYPES, PARTITIONS)
  try {
    for (const table of TABLES) await untold.run(table, ...first)
    const attach = `ALTER TABLE t ATTACH PARTITION t_a FOR VALUES FROM (0) TO (20)`
    await untold.run(
      't',
      `ALTER TABLE t DETACH PARTITION t_a`,
      `UPDATE t_a SET a = 'unseen'`,
      attach,
      `ALTER TABLE t RENAME a TO x`,
      insert(10),
    )
    expect(await untold.catchUp()).toMatchObject([
      { kind: 'unmirrorable', code: 'SCHEMA_CHANGED', reason: expect.stringContaining('was altered and the table rewritten') as unknown },
    ])
  } finally {
    await untold.leave()
  }
})

const bulk = (from: number) =>
  `INSERT INTO t (id, n, b) SELECT g, g, repeat(md5(g::text), 40) FROM generate_series(${from}, ${from} + 500) g`

test('amid transactions that are streamed in parts, prepared, and rolled back in part', async () => {
  const untold = await Untold.create(COLUMNS, TYPES)
  try {
    await untold.run(
      't',
      ...first,
      'BEGIN',
      bulk(1000),
      `ALTER TABLE t ADD c int DEFAULT 5`,
      bulk(2000),
      `ALTER TABLE t DROP a`,
      bulk(3000),
      'COMMIT',
    )
    expect(await untold.catchUp()).toMatchObject([{ kind: 'unmirrorable', code: 'SCHEMA_CHANGED' }])
  } finally {
    await untold.leave()
  }
  const other = await Untold.create(COLUMNS, TYPES)
  try {
    await other.run(
      't',
      ...first,
      'BEGIN',
      bulk(1000),
      `ALTER TABLE t ADD c int DEFAULT 5`,
      bulk(2000),
      `ALTER TABLE t RENAME a TO x`,
      bulk(3000),
      'COMMIT',
      ...rows(10),
    )
    await other.run(
      'u',
      ...first,
      'BEGIN',
      insert(10),
      'SAVEPOINT s',
      `ALTER TABLE u DROP a`,
      insert(11),
      'ROLLBACK TO s',
      `ALTER TABLE u ADD c int DEFAULT 5`,
      insert(12),
      'COMMIT',
    )
    await other.run('w', ...first, 'BEGIN', insert(10), `ALTER TABLE w ADD c int DEFAULT 5`, insert(11), `PREPARE TRANSACTION 'p'`)
    await other.catchUp()
    await other.run('w', `COMMIT PREPARED 'p'`, ...rows(20))
    await other.expectEqual()
  } finally {
    await other.leave()
  }
})

const COMPARED = [
  ['a volatile default', `ALTER TABLE t ADD c float8 DEFAULT random()`, 'values of its own'],
  ['a serial', `ALTER TABLE t ADD c serial`, 'values of its own'],
  ['an integer widened, which a USING clause may have changed', `ALTER TABLE t ALTER n TYPE bigint`, 'rewritten'],
  ['a USING clause that keeps the type', `ALTER TABLE t ALTER n TYPE int USING n + 1`, 'rewritten'],
  ['another type', `ALTER TABLE t ALTER n TYPE text`, 'rewritten'],
  ['a shorter varchar', `ALTER TABLE t ALTER v TYPE varchar(3)`, 'rewritten'],
  ['a default of an array', `ALTER TABLE t ADD c int[] DEFAULT '{1,2}'`, "can't hold"],
  ['a default of a composite', `ALTER TABLE t ADD c pair DEFAULT ROW(1, 'x')`, "can't hold"],
  ['a composite that grows', `ALTER TYPE pair ADD ATTRIBUTE z int; UPDATE t SET q = (1, 'y', 3)`, 'was altered'],
  ['a column dropped and added again', `ALTER TABLE t DROP a; ALTER TABLE t ADD a text`, 'dropped and added'],
  ['a column dropped and another added', `ALTER TABLE t DROP a, ADD c int`, 'dropped and added'],
] as const

test.each(COMPARED)('%s: not decided', async (_, ddl, reason) => {
  const untold = await Untold.create(COLUMNS, TYPES)
  try {
    await untold.run('t', ...first, ...ddl.split('; '), insert(10))
    expect(await untold.catchUp()).toMatchObject([
      { kind: 'unmirrorable', code: 'SCHEMA_CHANGED', reason: expect.stringContaining(reason) as unknown },
    ])
  } finally {
    await untold.leave()
  }
})

const ALTERED_TYPES = [
  ['an attribute of a composite renamed', `ALTER TYPE pair RENAME ATTRIBUTE y TO z`, 'type pair was altered'],
  ['a value of an enum renamed', `ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'`, 'type mood was renamed to "blue"'],
] as const

test.each(ALTERED_TYPES)('%s: noticed in the catalog, while it is followed or not', async (_, ddl, reason) => {
  const untold = await Untold.create(COLUMNS, TYPES)
  const refused = { kind: 'refused', code: 'SCHEMA_CHANGED', reason: expect.stringContaining(reason) as unknown }
  try {
    await untold.run('t', ...first, `ALTER TYPE mood ADD VALUE 'new'`, insert(5))
    await untold.expectEqual()
    expect(await untold.changesInCatalog()).toEqual([])
    await untold.run('t', ddl, insert(10))
    await untold.catchUp()
    expect(await untold.changesInCatalog()).toMatchObject(TABLES.map((name) => ({ ...refused, table: { schema: 'public', name } })))
    await untold.away(() => Promise.resolve())
    expect(await untold.changesInCatalog()).toMatchObject([refused, refused, refused])
  } finally {
    await untold.leave()
  }
})
