import { formatTableName, isMoonlinkError, systemClock, valueAt, type ColumnBatch, type CopyRange, type Lsn } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import pg from 'pg'
import { beforeEach, expect, test, vi } from 'vitest'
import { Connector } from './connect.ts'
import { follow, schemaOf, sourceState, tableOf } from './harness.test.support.ts'
import { Replica, sorted } from './replica.test.support.ts'
import type { SnapshotCopy } from './copy.ts'
import { openPgSource, type PgSource } from './source.ts'

const postgres = withPostgres()
let database: TestDatabase
let count = 0
let config: { connection: string; slot: string; copyRangeBytes: number; copyBatchRows: number }

beforeEach(async () => {
  database = await postgres.createDatabase()
  // Small ranges and batches, so that a small table has many of both.
  config = { connection: database.connectionString, slot: `slot_${++count}`, copyRangeBytes: 64 * 1024, copyBatchRows: 500 }
})

const forever = () => new AbortController().signal

async function copyInto(replica: Replica, source: PgSource, names: readonly string[], whileCopying?: () => Promise<void>): Promise<Lsn> {
  const tables = await Promise.all(names.map(async (name) => ({ table: tableOf(name), schema: await schemaOf(source, name) })))
  const copy = await source.copy(tables, forever())
  await whileCopying?.()
  await Promise.all(
    tables.map(async ({ table }) => {
      await copy.read(table, async (rows) => replica.addCopied(formatTableName(table), rows))
    }),
  )
  await copy.close()
  return copy.boundaryLsn
}

test('the copy and the stream after it make every row once, while others write', async () => {
  const { client, connectionString } = database
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text, n int); CREATE TABLE bag (x int, y text); ALTER TABLE bag REPLICA IDENTITY FULL`,
  )
  await client.query(
    `INSERT INTO items SELECT n, repeat('x', n % 300), 0 FROM generate_series(1, 5000) n; INSERT INTO bag SELECT n % 40, 'y' FROM generate_series(1, 2000) n`,
  )
  const writer = new pg.Client(connectionString)
  await writer.connect()
  let isWriting = true
  let round = 0
  const writing = (async () => {
    while (isWriting) {
      round++
      await writer.query(`BEGIN; UPDATE items SET n = n + 1 WHERE id % 50 = ${round % 50}; INSERT INTO items VALUES (${10_000 + round}, 'new', 0);
        DELETE FROM items WHERE id = ${round * 3}; INSERT INTO bag VALUES (${round % 40}, 'new'); DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag); COMMIT`)
    }
  })()
  const following = await follow(config, ['public.items', 'public.bag'])
  // Both at once, so that the stream has transactions on either side of the boundary.
  const boundary = await copyInto(following.replica, following.source, ['public.items', 'public.bag'], async () => {
    const seen = round
    while (round < seen + 20) await following.source.currentLsn()
  })
  isWriting = false
  await writing
  await writer.end()
  const target = await following.source.currentLsn()
  for await (const event of following.stream) {
    following.replica.apply(event, boundary)
    if (event.kind === 'watermark' && event.lsn >= target) break
  }
  expect(sorted(following.replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
  expect(sorted(following.replica.rowsOf('public.bag'))).toEqual(await sourceState(client, 'bag'))
  expect(following.replica.missing).toEqual([])
  expect(round).toBeGreaterThan(20)
  await following.close()
})

test('dead rows, pages added meanwhile, children and empty tables: the copy has what the snapshot shows', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text); CREATE TABLE child (extra int) INHERITS (items); CREATE TABLE nothing (id int PRIMARY KEY)`,
  )
  await client.query(
    `INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 4000) n; DELETE FROM items WHERE id % 2 = 0; INSERT INTO child VALUES (-1, 'c', 1)`,
  )
  const source = await openPgSource(config)
  await source.prepare(['public.items', 'public.nothing'].map(tableOf))
  const replica = new Replica()
  const expected = await sourceState(client, 'ONLY items')
  await copyInto(replica, source, ['public.items', 'public.nothing'], async () => {
    await client.query(`INSERT INTO items SELECT n, repeat('y', 200) FROM generate_series(10001, 14000) n`)
  })
  expect(sorted(replica.rowsOf('public.items'))).toEqual(expected)
  expect(replica.rowsOf('public.nothing')).toEqual([])
  // The temporary slot went at once; the permanent one stays.
  expect(
    (await client.query<{ slot_name: string }>('SELECT slot_name FROM pg_replication_slots')).rows.filter((row) =>
      row.slot_name.startsWith(config.slot),
    ),
  ).toEqual([{ slot_name: config.slot }])
  await source.close()
})

test('a table added later, copied beside the running stream', async () => {
  const { client } = database
  await client.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b VALUES (1, NULL)')
  const following = await follow(config, ['public.a'])
  const { source, replica } = following
  await client.query(`INSERT INTO b VALUES (2, 'before')`)
  await source.prepare([tableOf('public.a'), tableOf('public.b')])
  await client.query(`INSERT INTO b VALUES (3, 'published')`)
  const boundary = await copyInto(replica, source, ['public.b'])
  await client.query(`INSERT INTO b VALUES (4, 'after'); UPDATE b SET v = 'changed' WHERE id = 1; INSERT INTO a VALUES (1)`)
  const target = await source.currentLsn()
  for await (const event of following.stream) {
    replica.apply(event, boundary)
    if (event.kind === 'watermark' && event.lsn >= target) break
  }
  for (const table of ['a', 'b']) expect(sorted(replica.rowsOf(`public.${table}`))).toEqual(await sourceState(client, table))
  expect(replica.missing).toEqual([])
  await following.close()
})

test('a copy that is aborted while it opens its connections is not opened, and gives them back', async () => {
  await database.client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource({ ...config, copyWorkers: 2 })
  await source.prepare([tableOf('public.items')])
  const items = { table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }
  const controller = new AbortController()
  const connect = vi.spyOn(Connector.prototype, 'connectBulk')
  connect.mockImplementationOnce(async function (this: Connector, purpose) {
    controller.abort(new Error('enough'))
    return this.connectBulk(purpose)
  })
  await expect(source.copy([items], controller.signal)).rejects.toThrow('enough')
  connect.mockRestore()
  const others = `SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%copy%'`
  await expect.poll(async () => (await database.client.query(others)).rows[0].count).toBe(0)
  await source.close()
})

test('a reader that leaves early gives its connections back; abort ends the others', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text); INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n`,
  )
  const source = await openPgSource(config)
  await source.prepare([tableOf('public.items')])
  const controller = new AbortController()
  const copy = await source.copy([{ table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }], controller.signal)
  const leaving = copy.read(tableOf('public.items'), async (batch) => {
    expect(batch.length).toBeGreaterThan(0)
    throw new Error('seen enough')
  })
  await expect(leaving).rejects.toThrow('seen enough')
  let rows = 0
  let out = 0
  await copy.read(tableOf('public.items'), async (batch) => {
    const { length } = batch
    expect(++out).toBeLessThanOrEqual(4)
    await new Promise((resolve) => setTimeout(resolve, 1))
    expect(batch.columns[0].length).toBe(length)
    rows += length
    out--
  })
  expect([rows, out]).toEqual([20_000, 0])
  const interrupted = copy.read(tableOf('public.items'), async () => controller.abort(new Error('enough')))
  await expect(interrupted).rejects.toThrow('enough')
  await source.close()
  const { rows: left } = await client.query(
    `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'moonlink copy%' AND datname = current_database()`,
  )
  expect(left.length).toBeLessThanOrEqual(3)
})

/** One copy of `public.items` at a time, in parts. */
async function itemsCopy(source: PgSource): Promise<SnapshotCopy> {
  return source.copy([{ table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }], forever())
}

const idsOf = (rows: ColumnBatch) => Array.from({ length: rows.length }, (_, row) => Number(valueAt(rows.columns[0], row)))

test('a copy leaves out the ranges that another has read, and reads of them what changed after that one', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text); INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 4000) n`,
  )
  const source = await openPgSource(config)
  await source.prepare([tableOf('public.items')])
  const first = await itemsCopy(source)
  const { horizon, storage } = first.table(tableOf('public.items'))
  const done: CopyRange[] = []
  const seen = new Map<number, number>()
  await first
    .read(
      tableOf('public.items'),
      async (rows, range) => {
        for (const id of idsOf(rows)) seen.set(id, range.from)
      },
      {
        finished: async (range) => {
          done.push(range)
          if (done.length === 3) throw new Error('cut off')
        },
      },
    )
    .catch((error: Error) => expect(error.message).toBe('cut off'))
  await first.close()
  const finished = new Set(done.map(({ from }) => from))
  const kept = [...seen].filter(([, from]) => finished.has(from)).map(([id]) => id)
  expect(kept.length).toBeGreaterThan(100)
  const changed = kept.filter((id) => id % 3 === 0)
  await client.query('UPDATE items SET name = name || $1 WHERE id = ANY ($2)', ['y', changed])
  await client.query(`DELETE FROM items WHERE id = ANY ($1)`, [kept.slice(0, 10)])
  const second = await itemsCopy(source)
  expect(second.table(tableOf('public.items')).storage).toBe(storage)
  const left: number[] = []
  await second.read(
    tableOf('public.items'),
    async (rows, range) => void (expect(finished.has(range.from)).toBe(false), left.push(...idsOf(rows))),
    { done },
  )
  const came: number[] = []
  await second.readChanged(tableOf('public.items'), done, horizon, async (rows) => void came.push(...idsOf(rows)))
  await second.close()
  // Some moved into pages that had been read, and no page was read twice.
  const dropped = new Set([...changed, ...kept.slice(0, 10)])
  const all = [...kept.filter((id) => !dropped.has(id)), ...came, ...left].sort((a, b) => a - b)
  const { rows } = await client.query<{ id: number }>('SELECT id FROM items ORDER BY id')
  expect(all).toEqual(rows.map(({ id }) => id))
  await client.query('VACUUM FULL items')
  const third = await itemsCopy(source)
  expect(third.table(tableOf('public.items')).storage).not.toBe(storage)
  await third.close()
  await source.close()
})

test.each([
  ['a table', ''],
  ['a partitioned table', 'PARTITION BY RANGE (id)'],
])('%s whose values are in TOAST is read in ranges of the bytes that are set', async (_, partitioned) => {
  const { client } = database
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text) ${partitioned};
     ${partitioned === '' ? '' : 'CREATE TABLE items_all PARTITION OF items DEFAULT;'}
     ALTER TABLE items ALTER name SET STORAGE EXTERNAL;
     INSERT INTO items SELECT n, repeat('x', 20000) FROM generate_series(1, 400) n`,
  )
  const source = await openPgSource({ ...config, copyRangeBytes: 1024 * 1024 })
  await source.prepare([tableOf('public.items')])
  const copy = await itemsCopy(source)
  const { pages, pageBytes } = copy.table(tableOf('public.items'))
  expect(pages * pageBytes).toBeGreaterThan(400 * 20_000)
  let ranges = 0
  const ids: number[] = []
  const take = async (rows: ColumnBatch) => void ids.push(...idsOf(rows))
  await copy.read(tableOf('public.items'), take, { finished: async () => void ranges++ })
  expect(ids.sort((a, b) => a - b)).toEqual(Array.from({ length: 400 }, (__, index) => index + 1))
  // 9 MiB of values in 4 pages.
  expect(ranges).toBe(pages)
  await copy.close()
  await source.close()
})

test('a snapshot that may not be held for longer ends a copy that can go on, between two ranges', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text); INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 4000) n`,
  )
  const time = { ms: 0 }
  const clock = { nowMs: () => time.ms, sleep: systemClock.sleep }
  const source = await openPgSource({ ...config, copySnapshotMaxMs: 1000 }, { clock })
  await source.prepare([tableOf('public.items')])
  const done: CopyRange[] = []
  const ids: number[] = []
  let sessions = 0
  for (let isOver = false; !isOver;) {
    sessions++
    const copy = await itemsCopy(source)
    const take = async (rows: ColumnBatch) => {
      ids.push(...idsOf(rows))
      time.ms += 1000
    }
    isOver = await copy
      .read(tableOf('public.items'), take, { done: [...done], mayGoOn: sessions < 3, finished: async (range) => void done.push(range) })
      .then(
        () => true,
        (error: unknown) => {
          expect(isMoonlinkError(error) && error.code).toBe('COPY_SNAPSHOT_OLD')
          return false
        },
      )
    await copy.close()
  }
  expect(sessions).toBe(3)
  expect(ids.length).toBe(4000)
  expect(new Set(ids).size).toBe(4000)
  await source.close()
})

test('a table that another session has locked is named once the wait is over', async () => {
  const { client, connectionString } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource({ ...config, copyLockTimeoutMs: 20 })
  await source.prepare([tableOf('public.items')])
  const table = { table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }
  const other = new pg.Client(connectionString)
  await other.connect()
  await other.query('BEGIN; LOCK TABLE items')
  const error = await source.copy([table], forever()).catch((cause: unknown) => cause)
  expect(isMoonlinkError(error, 'retry') && error.code).toBe('PG_LOCK_TIMEOUT')
  expect(String(error)).toContain('public.items')
  await other.query('COMMIT')
  await other.end()
  await (await source.copy([table], forever())).close()
  await source.close()
})

test('a snapshot for comparing waits no longer for who locks a table behind it', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource({ ...config, copyLockTimeoutMs: 20 })
  const snapshot = await source.snapshot()
  await client.query('BEGIN; LOCK TABLE items')
  const error = await snapshot.rows('SELECT * FROM public.items').catch((cause: unknown) => cause)
  await client.query('COMMIT')
  expect(error).toMatchObject({ kind: 'retry', code: 'PG_LOCK_TIMEOUT', message: expect.stringContaining('Try again') as string })
  await snapshot.close()
  await source.close()
})

/** Waits until the server has as many sessions that wait for a lock of that kind. */
async function untilWaiting(kind: 'relation' | 'transactionid', sessions: number): Promise<void> {
  for (;;) {
    const sql = `SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND locktype = $1`
    if ((await database.client.query<{ n: number }>(sql, [kind])).rows[0].n === sessions) return
  }
}

test.each([
  ['before the snapshot', 'a transaction that the snapshot waits for wants to alter the table'],
  ['behind the snapshot', 'somebody has asked for an exclusive lock before the copy reads'],
])('the copy gives way %s where %s', async (when) => {
  const { client, connectionString } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE other (id int)')
  const source = await openPgSource(config)
  await source.prepare([tableOf('public.items')])
  const table = { table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }
  const [writer, alterer] = [new pg.Client(connectionString), new pg.Client(connectionString)]
  await Promise.all([writer.connect(), alterer.connect()])
  await writer.query('BEGIN; INSERT INTO other VALUES (1)')
  const copying = source.copy([table], forever()).catch((cause: unknown) => cause)
  await untilWaiting('transactionid', 1)
  const alter = 'ALTER TABLE items ADD COLUMN name text'
  const altering = when === 'before the snapshot' ? writer.query(`${alter}; COMMIT`) : alterer.query(alter)
  await untilWaiting('relation', 1)
  if (when === 'behind the snapshot') await writer.query('COMMIT')
  expect(await copying).toMatchObject({
    kind: 'retry',
    code: 'PG_LOCK_TIMEOUT',
    message: expect.stringContaining('public.items') as string,
  })
  await altering
  await Promise.all([writer.end(), alterer.end()])
  await source.close()
})

test('a bound on bytes a second holds for all connections together', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE items (id int PRIMARY KEY, name text); INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 3000) n`,
  )
  let ms = 0
  let slept = 0
  const clock = {
    nowMs: () => ms,
    sleep: async (pause: number, signal?: AbortSignal) => {
      // What warns of old snapshots waits for the end.
      if (pause > 60_000) await new Promise((_, reject) => signal!.addEventListener('abort', () => reject(new Error('over'))))
      ms += pause
      slept += pause
    },
  }
  const source = await openPgSource({ ...config, copyBytesPerSecond: 100_000 }, { clock })
  await source.prepare([tableOf('public.items')])
  const copy = await itemsCopy(source)
  let rows = 0
  await copy.read(tableOf('public.items'), async (batch) => void (rows += batch.length))
  await copy.close()
  expect(rows).toBe(3000)
  // 3,000 rows of some 214 bytes.
  expect(slept).toBeGreaterThan(5000)
  await source.close()
})

test('a value that Iceberg cannot hold fails its table, naming the column, and the others go on', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE bad (id int PRIMARY KEY, d date); INSERT INTO bad VALUES (1, 'infinity'); CREATE TABLE good (id int PRIMARY KEY); INSERT INTO good VALUES (1)`,
  )
  const source = await openPgSource(config)
  await source.prepare([tableOf('public.bad'), tableOf('public.good')])
  const tables = await Promise.all(
    ['public.bad', 'public.good'].map(async (name) => ({ table: tableOf(name), schema: await schemaOf(source, name) })),
  )
  const copy = await source.copy(tables, forever())
  const read = async (name: string) => {
    let rows = 0
    await copy.read(tableOf(name), async (batch) => void (rows += batch.length))
    return rows
  }
  const error = await read('public.bad').catch((cause: unknown) => cause)
  expect(isMoonlinkError(error) && error.code).toBe('VALUE_UNREPRESENTABLE')
  expect(String(error)).toContain('public.bad: column "d"')
  expect(await read('public.good')).toBe(1)
  await copy.close()
  await source.close()
})

test('a copy of what is not prepared, or has changed since it was listed, is refused', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY, name text)')
  const source = await openPgSource(config)
  const table = { table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }
  const named = (error: unknown) => (isMoonlinkError(error) ? [error.code, error.context['table']] : error)
  const refused = async () => source.copy([table], forever()).catch(named)
  expect(await refused()).toEqual(['PG_NOT_PREPARED', 'public.items'])
  await source.prepare([table.table])
  await client.query('ALTER TABLE items ADD COLUMN more int')
  expect(await refused()).toEqual(['PG_SCHEMA_CHANGED', 'public.items'])
  await source.close()
})

test('what is copied counts as read of the server’s history', async () => {
  await database.client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource(config)
  await source.prepare([tableOf('public.items')])
  const tables = [{ table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') }]
  const copy = await source.copy(tables, forever())
  expect(source.history.timeline).toBe(1)
  expect(source.history.reachedLsn).toBeGreaterThanOrEqual(copy.boundaryLsn)
  await copy.close()
  source.history.resume(7, null, () => Promise.resolve())
  await expect(source.copy(tables, forever())).rejects.toMatchObject({ kind: 'retry', code: 'PG_TIMELINE_UNCHECKED' })
  await source.close()
})
