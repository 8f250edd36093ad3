import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock, systemRandom } from '@moonlink/core'
import { FileCatalog, openTableStorage } from '@moonlink/iceberg-writer'
import { LocalObjectStore, pathToFileUri } from '@moonlink/object-store'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { points, type Failpoint, type Point } from './testing/failpoints/failpoint.ts'
import { Load } from './testing/load.ts'
import { simParquet } from './testing/sim/sim-parquet.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-failpoints-'))
let backend: BackendProcess | null = null
afterAll(async () => {
  await backend?.stop('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

/** What is after one call is before the next: so one side of each will do, and MOONLINK_FAILPOINTS=all takes both. */
const isAll = process.env['MOONLINK_FAILPOINTS'] === 'all'
const before: readonly Point[] = ['log create', 'log remove', 'state write', 'vector put', 'manifest put']
const failpoints = (of: readonly Point[]): Failpoint[] =>
  of
    .flatMap((point) => (['before', 'after'] as const).map((side) => ({ point, side })))
    .filter(({ point, side }) => isAll || (side === 'before') === before.includes(point))
const tables = ['items', 'bag', 'still']

async function expectKilled(running: BackendProcess, died: Promise<unknown>, failpoint: Failpoint): Promise<void> {
  const patience = new AbortController()
  await Promise.race([died, systemClock.sleep(60_000, patience.signal)])
  patience.abort(new Error('died'))
  expect(running.child.signalCode, `${JSON.stringify(failpoint)} was reached: ${running.said}`).toBe('SIGKILL')
}

/** One state directory through all of its deaths: each process begins with what the one before left, and is compared before it dies itself. */
class Lives {
  private readonly database: TestDatabase
  private readonly stateDir: string
  private readonly env: Readonly<Record<string, string>>

  constructor(database: TestDatabase, changeLogKind: string) {
    this.database = database
    this.stateDir = join(directory, database.name)
    this.env = {
      MOONLINK_SOURCE_URL: database.connectionString,
      MOONLINK_STATE_DIR: this.stateDir,
      MOONLINK_CHANGE_LOG_KIND: changeLogKind,
      MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '20KiB',
      MOONLINK_FLUSH_INTERVAL_MS: '300ms',
      // Nothing but commits makes files, and none goes by expiry: what no snapshot has is left over.
      MOONLINK_COMPACTION_MIN_FILES: '1000',
      MOONLINK_EXPIRY_MAX_AGE_MS: '1d',
    }
  }

  /** Starts, is found equal, works until it dies at the failpoint, and misses a little. */
  async live(failpoint: Failpoint): Promise<void> {
    backend = BackendProcess.dying(failpoint, this.env)
    await backend.ready()
    await this.expectEqual(backend)
    const { child } = backend
    const died = once(child, 'exit')
    const load = new Load(this.database.connectionString)
    child.kill('SIGUSR2')
    try {
      await expectKilled(backend, died, failpoint)
    } finally {
      await load.stop()
    }
    await new Load(this.database.connectionString).stop()
    await this.database.client.query(`UPDATE still SET note = note || 'x'`)
  }

  async end(): Promise<void> {
    backend = await BackendProcess.start([], this.env)
    await this.expectEqual(backend)
    expect(await backend.stop()).toBe(0)
    expect(readFileSync(join(this.stateDir, 'moonlink.log'), 'utf8')).not.toMatch(/made equal|copied again|is damaged|is missing/)
  }

  private async expectEqual(running: BackendProcess): Promise<void> {
    await running.wait({ iceberg: true })
    for (const table of tables) {
      const columns = table === 'items' ? `id, name, amount` : table === 'bag' ? `n, t` : `id, note`
      const print = `SELECT count(*)::int AS n, md5(string_agg(row, ',' ORDER BY row)) AS sum FROM (SELECT concat_ws('|', ${columns}) AS row FROM public.${table}) r`
      const { rows } = await this.database.client.query<{ n: number; sum: string }>(print)
      expect(await running.query(print), table).toEqual([[rows[0].n, rows[0].sum]])
    }
    const deadline = Date.now() + 10_000
    for (const table of tables) {
      let left = await this.leftOver(table)
      while (left.length > 0 && Date.now() < deadline) {
        // A later commit makes it certain that no earlier one can land.
        await this.database.client.query(
          `UPDATE still SET note = note; INSERT INTO bag VALUES (9, 'c'); INSERT INTO items (name) VALUES ('c')`,
        )
        await running.wait({ iceberg: true })
        left = await this.leftOver(table)
      }
      expect(left, `data files of ${table} that no snapshot has`).toEqual([])
    }
  }

  /** Data files that no snapshot has. */
  private async leftOver(name: string): Promise<string[]> {
    const store = new LocalObjectStore()
    const ports = { store, clock: systemClock, random: systemRandom }
    const warehouse = pathToFileUri(join(this.stateDir, 'warehouse')).replace(/\/+$/, '')
    const catalog = new FileCatalog({ ...ports, warehouse })
    // Listed first: what is written meanwhile is not left over.
    const there: string[] = []
    for await (const { uri } of store.list(`${catalog.locationOf({ namespace: 'public', name })}/data/`))
      if (uri.endsWith('.parquet')) there.push(uri)
    const storage = await openTableStorage({ ...ports, table: { schema: 'public', name }, catalog, parquet: simParquet })
    const taken = new Set(storage.snapshot.files.map(({ path }) => path))
    for (const { snapshotId } of storage.retained()) for (const { path } of (await storage.loadSnapshot(snapshotId)).files) taken.add(path)
    return there.filter((uri) => !taken.has(uri))
  }
}

async function through(deaths: readonly Failpoint[], changeLogKind: string): Promise<void> {
  const database = await postgres.createDatabase()
  await Load.createTables(database.client)
  const lives = new Lives(database, changeLogKind)
  for (const failpoint of deaths) await lives.live(failpoint)
  await lives.end()
}

test('a process killed at any call by which state leaves it loses and repeats nothing', { timeout: 600_000 }, () =>
  through(failpoints(points), 'local'),
)

test('and with the change log in the object store', { timeout: 300_000 }, () => through(failpoints(['log sync', 'state write']), 'store'))

const purgePoints = (['state write', 'catalog drop', 'file remove'] as const)
  .flatMap((point) => (['before', 'after'] as const).map((side) => ({ point, side })))
  .filter(({ side }) => isAll || side === 'after')

test(
  'a purge that is killed at any call is finished by the next process, before the table is added again',
  { timeout: 600_000 },
  async () => {
    const { client, connectionString, name } = await postgres.createDatabase()
    const stateDir = join(directory, name)
    const env = { MOONLINK_SOURCE_URL: connectionString, MOONLINK_STATE_DIR: stateDir, MOONLINK_FLUSH_INTERVAL_MS: '100ms' }
    await client.query('CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE gone (id serial PRIMARY KEY); INSERT INTO kept VALUES (1)')
    const place = join(stateDir, 'warehouse/public/gone')
    const files = () =>
      existsSync(place) ? readdirSync(place, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()) : []
    const add = async (running: BackendProcess) => {
      await client.query('INSERT INTO gone DEFAULT VALUES')
      await running.post('/tables', { tables: ['public.gone'] })
      await running.wait({ iceberg: true })
      const { rows } = await client.query<{ n: number }>('SELECT count(*)::int AS n FROM gone')
      expect(await running.query('SELECT count(*)::int AS n FROM public.gone')).toEqual([[rows[0].n]])
      expect(files().length).toBeGreaterThan(3)
    }
    backend = await BackendProcess.start([], env)
    await backend.stop()
    for (const failpoint of purgePoints) {
      backend = BackendProcess.dying(failpoint, env)
      await backend.ready()
      await backend.wait({ iceberg: true })
      const { child } = backend
      const died = once(child, 'exit')
      child.kill('SIGUSR2')
      // It has come to the signal by then.
      await backend.status().catch(() => undefined)
      await fetch(`${backend.url}/tables/public.gone?purge=true`, { method: 'DELETE' }).catch(() => undefined)
      await expectKilled(backend, died, failpoint)
      backend = await BackendProcess.start([], env)
      const isMirrored = (await backend.tables()).some((table) => table.name === 'public.gone')
      expect(isMirrored && failpoint.point !== 'state write', JSON.stringify(failpoint)).toBe(false)
      if (!isMirrored) {
        await expect.poll(files, { message: JSON.stringify(failpoint) }).toEqual([])
        await add(backend)
      }
      await backend.stop()
    }
  },
)
