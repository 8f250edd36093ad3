import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import pg from 'pg'
import { backlog, COLUMNS } from './backlog.ts'
import { copyToNowhere, currentLsn } from './ceilings.ts'
import { freshDatabase, type BenchContext } from './context.ts'
import { MirrorProcess } from './mirror-process.ts'
import { measurement, percentile, rounded, type Measurement } from './report.ts'

const ROW = `i, (i::bigint * 7919 % 1000003)::int, 'customer number ' || i, md5(i::text) || md5((i + 1)::text), (i % 100000) / 100.0,
  timestamptz '2026-01-01' + i * interval '1 second', jsonb_build_object('i', i, 'k', 'v'), i % 3 = 0, md5(i::text)::uuid, i / 7.0`

/** Rounds of the copy; an odd number. */
const COPY_ROUNDS = 5

/**
 * Rows/s of the initial copy beside one raw COPY stream: a gigabyte, so that it is not the warming-up that is measured. Each copy is compared with
 * the raw streams right before and after it, which a machine that becomes slower or faster changes alike; the round of the median ratio counts.
 */
export async function initialCopy(context: BenchContext): Promise<Measurement> {
  const rows = Math.round(4_000_000 * context.scale)
  const { url, client } = await freshDatabase(context, 'bench_copy')
  await client.query(`CREATE TABLE t (${COLUMNS})`)
  await client.query(`INSERT INTO t SELECT ${ROW} FROM generate_series(1, ${rows}) i`)
  await client.query('VACUUM ANALYZE t')
  await copyToNowhere(url, 't')
  const rounds: (CopyRound & { readonly raw: number; readonly ratio: number })[] = []
  let before = await copyToNowhere(url, 't')
  for (let round = 0; round < COPY_ROUNDS; round++) {
    const copied = await copyRound(context, url, client)
    const after = await copyToNowhere(url, 't')
    const raw = (before + after) / 2
    rounds.push({ ...copied, raw, ratio: raw / copied.seconds })
    before = after
  }
  await client.end()
  rounds.sort((a, b) => a.ratio - b.ratio)
  const { seconds, startSeconds, usage, raw } = rounds[Math.floor(COPY_ROUNDS / 2)]
  return measurement('initial copy', rows, seconds, { name: 'COPY binary to nowhere', seconds: raw }, '>= 0.7', {
    cpuSecondsPerMillionRows: usage && (usage.cpuSeconds / rows) * 1e6,
    peakRssMiB: usage && usage.peakRssMiB,
    details: { 'process start s': rounded(startSeconds), ratios: rounds.map(({ ratio }) => ratio.toFixed(2)).join(' ') },
  })
}

interface CopyRound {
  readonly seconds: number
  readonly startSeconds: number
  readonly usage: ReturnType<MirrorProcess['usage']>
}

/** A mirror from its first start, which leaves nothing behind. */
async function copyRound(context: BenchContext, url: string, client: pg.Client): Promise<CopyRound> {
  const stateDir = mkdtempSync(join(context.directory, 'copy-'))
  const started = performance.now()
  const mirror = await MirrorProcess.start({ source: url, stateDir, tables: ['public.t'], profileDir: context.profileDir })
  try {
    const healthy = performance.now()
    await mirror.ready()
    return { seconds: (performance.now() - healthy) / 1000, startSeconds: (healthy - started) / 1000, usage: mirror.usage() }
  } finally {
    await mirror.stop()
    await client.query(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
    const { rows } = await client.query<{ name: string }>('SELECT quote_ident(pubname) AS name FROM pg_publication')
    for (const { name } of rows) await client.query(`DROP PUBLICATION ${name}`)
    rmSync(stateDir, { recursive: true, force: true })
  }
}

export function bigTransaction(context: BenchContext): Promise<Measurement> {
  const changes = Math.round(1_000_000 * context.scale)
  return backlog(context, {
    name: 'one big transaction of inserts',
    database: 'bench_big',
    mark: '>= 0.8',
    prepare: '',
    load: async (client) => {
      await client.query(`INSERT INTO t SELECT ${ROW} FROM generate_series(1, ${changes}) i`)
      return changes
    },
  })
}

/** The same where the server streams it in progress; the raw drain, of proto_version 1, has the server spool it instead. */
export function streamedTransaction(context: BenchContext): Promise<Measurement> {
  const changes = Math.round(1_000_000 * context.scale)
  return backlog(context, {
    name: 'one streamed transaction of inserts',
    database: 'bench_streamed',
    mark: '>= 0.8',
    prepare: `ALTER DATABASE bench_streamed SET logical_decoding_work_mem = '64MB'`,
    load: async (client) => {
      await client.query(`INSERT INTO t SELECT ${ROW} FROM generate_series(1, ${changes}) i`)
      return changes
    },
  })
}

/** As many that the beginning, when both ends find their pace, is a small part of it. */
export function oneRowTransactions(context: BenchContext): Promise<Measurement> {
  const changes = Math.round(600_000 * context.scale)
  return backlog(context, {
    name: 'one-row transactions',
    database: 'bench_small',
    mark: '>= 0.8',
    prepare: '',
    load: async (client) => {
      await client.query('SET synchronous_commit = off')
      await client.query(
        `DO $$ BEGIN FOR k IN 1..${changes} LOOP INSERT INTO t SELECT ${ROW} FROM (SELECT k::bigint AS i) s; COMMIT; END LOOP; END $$`,
      )
      return changes
    },
  })
}

export function randomUpdates(context: BenchContext): Promise<Measurement> {
  const size = Math.round(500_000 * context.scale)
  const changes = Math.round(500_000 * context.scale)
  return backlog(context, {
    name: 'random updates and deletes',
    database: 'bench_update',
    mark: '>= 0.7',
    prepare: `INSERT INTO t SELECT ${ROW} FROM generate_series(1, ${size}) i`,
    load: async (client) => {
      await client.query('SELECT setseed(0.5)')
      const updates = Math.round(changes * 0.9)
      const step = Math.max(1, Math.round(updates / 20))
      let made = 0
      for (let done = 0; done < updates; done += step) {
        const updated = await client.query(
          `UPDATE t SET n = n + 1, note = md5(random()::text) WHERE id IN (SELECT DISTINCT (random() * ${size})::bigint FROM generate_series(1, ${step}))`,
        )
        made += updated.rowCount ?? 0
      }
      const deleted = await client.query(`DELETE FROM t WHERE id % 10 = 3`)
      return made + (deleted.rowCount ?? 0)
    },
  })
}

const WIDE_KINDS: readonly (readonly [type: string, value: (k: number) => string])[] = [
  ['int', (k) => `(i + ${k})::int`],
  ['bigint', (k) => `i * ${k + 1}`],
  ['float8', (k) => `i / ${k + 3}.0`],
  ['text', (k) => `'value ' || (i + ${k})`],
  ['timestamptz', () => `timestamptz '2026-01-01' + i * interval '1 second'`],
  ['boolean', (k) => `i % ${(k % 7) + 2} = 0`],
  ['numeric(18,2)', () => `(i % 100000) / 100.0`],
  ['date', () => `date '2026-01-01' + (i % 1000)::int`],
]
const WIDE = Array.from({ length: 199 }, (_, k) => ({ name: `c${k}`, k, kind: WIDE_KINDS[k % WIDE_KINDS.length] }))

/** Rows of 200 columns, a fifth of them often null: inserted, then half of them updated. */
export function wideRows(context: BenchContext): Promise<Measurement> {
  const rows = Math.round(60_000 * context.scale)
  const values = WIDE.map(({ k, kind: [, value] }) => (k % 5 === 4 ? `CASE WHEN i % 3 > 0 THEN ${value(k)} END` : value(k)))
  return backlog(context, {
    name: 'rows of 200 columns',
    database: 'bench_wide',
    mark: '>= 0.8',
    columns: `id bigint PRIMARY KEY, ${WIDE.map(({ name, kind: [type] }) => `${name} ${type}`).join(', ')}`,
    prepare: '',
    load: async (client) => {
      const step = Math.max(1, Math.round(rows / 20))
      for (let from = 1; from <= rows; from += step) {
        await client.query(
          `INSERT INTO t SELECT i, ${values.join(', ')} FROM generate_series(${from}::bigint, ${Math.min(rows, from + step - 1)}) i`,
        )
      }
      const { rowCount } = await client.query(`UPDATE t SET c0 = c0 + 1, c3 = 'changed' WHERE id % 2 = 0`)
      return rows + (rowCount ?? 0)
    },
  })
}

/** Updates of a counter beside 8 KB of text that does not change and so is not sent. */
export function toastUpdates(context: BenchContext): Promise<Measurement> {
  const size = Math.round(10_000 * context.scale)
  const changes = Math.round(100_000 * context.scale)
  return backlog(context, {
    name: 'updates beside unchanged TOAST',
    database: 'bench_toast',
    mark: '>= 0.5',
    columns: 'id bigint PRIMARY KEY, n int NOT NULL, body text',
    prepare: `ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
      INSERT INTO t SELECT i, 0, (SELECT string_agg(md5((i * 1000 + k)::text), '') FROM generate_series(1, 250) k) FROM generate_series(1, ${size}) i`,
    load: async (client) => {
      await client.query('SELECT setseed(0.5)')
      let made = 0
      while (made < changes) {
        const updated = await client.query(
          `UPDATE t SET n = n + 1 WHERE id IN (SELECT DISTINCT 1 + floor(random() * ${size})::bigint FROM generate_series(1, 100))`,
        )
        made += updated.rowCount ?? 0
      }
      return made
    },
  })
}

/** From the return of COMMIT to a query that shows the row, idle and beside a steady load. */
export async function freshness(context: BenchContext): Promise<Measurement[]> {
  const { url, client } = await freshDatabase(context, 'bench_fresh')
  await client.query(`CREATE TABLE t (${COLUMNS})`)
  await client.query(`CREATE TABLE probe (id bigint PRIMARY KEY)`)
  const mirror = await MirrorProcess.start({
    source: url,
    stateDir: mkdtempSync(join(context.directory, 'fresh-')),
    tables: ['public.t', 'public.probe'],
  })
  try {
    await mirror.ready()
    const idle = await probe(client, mirror, 100, 0)
    const loader = new pg.Client({ connectionString: url })
    await loader.connect()
    let loading = true
    let loaded = 0
    const load = (async () => {
      for (; loading; loaded += 2000)
        await loader.query(`INSERT INTO t SELECT ${ROW} FROM generate_series(${loaded + 1}, ${loaded + 2000}) i`)
    })()
    const busy = await probe(client, mirror, 50, 1_000_000)
    loading = false
    await load
    await loader.end()
    const result = (name: string, mark: string, times: number[], details: Record<string, number | string>) =>
      measurement(name, times.length, times.reduce((sum, time) => sum + time, 0) / 1000, { name: '-', seconds: null }, mark, {
        details: { 'p50 ms': rounded(percentile(times, 0.5)), 'p95 ms': rounded(percentile(times, 0.95)), ...details },
      })
    return [
      result('commit to readable, idle', 'p50 < 20 ms, p95 < 100 ms', idle, {}),
      result('commit to readable, under load', 'p95 < 1 s', busy, { 'rows loaded beside': loaded }),
    ]
  } finally {
    await mirror.stop()
    await client.end()
  }
}

async function probe(client: pg.Client, mirror: MirrorProcess, count: number, from: number): Promise<number[]> {
  const times: number[] = []
  for (let id = from; id < from + count; id++) {
    await client.query('INSERT INTO probe VALUES ($1)', [id])
    const committed = performance.now()
    for (;;) {
      const [row] = await mirror.query(`SELECT count(*) FROM public.probe WHERE id = ${id}`)
      if (Number(row[0]) === 1) break
    }
    times.push(performance.now() - committed)
  }
  return times.slice(Math.floor(count / 10))
}

/** A scan of a large table, 5 % deleted and 100k rows in memory, beside DuckDB over the same files without deletes. */
export async function unionRead(context: BenchContext): Promise<Measurement> {
  const rows = Math.round(10_000_000 * context.scale)
  const inMemory = Math.round(100_000 * context.scale)
  const { url, client } = await freshDatabase(context, 'bench_union')
  // Else the server would vacuum beside what is measured.
  await client.query(
    `CREATE TABLE t (id bigint PRIMARY KEY, n int NOT NULL, name text, price numeric(18,2)) WITH (autovacuum_enabled = false)`,
  )
  await client.query(
    `INSERT INTO t SELECT i, (i % 1000)::int, 'name ' || i % 5000, (i % 100000) / 100.0 FROM generate_series(1, ${rows}) i`,
  )
  const stateDir = mkdtempSync(join(context.directory, 'union-'))
  const mirror = await MirrorProcess.start({
    source: url,
    stateDir,
    tables: ['public.t'],
    env: { MOONLINK_FLUSH_INTERVAL_MS: '3600000', MOONLINK_COMPACTION_ENABLED: 'false' },
  })
  try {
    await mirror.ready()
    await client.query(`DELETE FROM t WHERE id % 20 = 7`)
    await client.query(`INSERT INTO t SELECT i, (i % 1000)::int, 'new ' || i, 1.5 FROM generate_series(${rows + 1}, ${rows + inMemory}) i`)
    await mirror.wait(await currentLsn(client))
    const files = `read_parquet('${join(stateDir, 'warehouse/public/t/data/*.parquet')}')`
    const aggregate = 'SELECT count(*), sum(n), sum(price) FROM'
    const { seconds, cpuSeconds, timesAsLong } = await withDuckDb((run) =>
      inPairs(
        40,
        { run: () => run(`${aggregate} ${files}`), cpuSeconds: ownCpuSeconds },
        { run: () => mirror.query(`${aggregate} public.t`), cpuSeconds: () => mirror.usage()?.cpuSeconds ?? 0 },
      ),
    )
    const [plain, union] = seconds
    return measurement('union read, 5 % deleted', rows, union, { name: 'DuckDB over the files', seconds: plain }, 'time <= 1.3 x', {
      details: {
        'time as multiple': rounded(timesAsLong),
        'CPU as multiple': rounded(cpuSeconds[1] / cpuSeconds[0]),
        'rows in memory': inMemory,
      },
    })
  } finally {
    await mirror.stop()
    await client.end()
  }
}

/** DuckDB alone, in this process. */
async function withDuckDb<T>(use: (run: (sql: string) => Promise<unknown>) => Promise<T>): Promise<T> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  try {
    return await use((sql) => connection.runAndReadAll(sql))
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

function ownCpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

interface Contestant {
  readonly run: () => Promise<unknown>
  readonly cpuSeconds: () => number
}

interface PairedTimes {
  /** The median time of each. */
  readonly seconds: readonly [number, number]
  /** The CPU time of all rounds of each. */
  readonly cpuSeconds: readonly [number, number]
  /** How many times as long as the first the second takes: the median over rounds of both. */
  readonly timesAsLong: number
}

/** They take turns, so that whatever else the machine does meets them alike. */
async function inPairs(rounds: number, first: Contestant, second: Contestant): Promise<PairedTimes> {
  const measure = async ({ run, cpuSeconds }: Contestant) => {
    const cpuBefore = cpuSeconds()
    const started = performance.now()
    await run()
    return { seconds: (performance.now() - started) / 1000, cpuSeconds: cpuSeconds() - cpuBefore }
  }
  for (const { run } of [first, second]) await run()
  const times: [number[], number[]] = [[], []]
  const cpuSeconds: [number, number] = [0, 0]
  for (let round = 0; round < rounds; round++) {
    for (const [index, contestant] of [first, second].entries()) {
      const one = await measure(contestant)
      times[index].push(one.seconds)
      cpuSeconds[index] += one.cpuSeconds
    }
  }
  const ratios = times[1].map((seconds, round) => seconds / times[0][round])
  return { seconds: [percentile(times[0], 0.5), percentile(times[1], 0.5)], cpuSeconds, timesAsLong: percentile(ratios, 0.5) }
}
