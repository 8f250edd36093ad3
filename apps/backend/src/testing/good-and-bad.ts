import { parseLsn, type Lsn } from '@moonlink/core'
import type { TestDatabase } from '@moonlink/testkit'
import { BackendProcess } from './backend-process.ts'
import { until } from './until.ts'
import { expectVerified } from './verified.ts'

const both: readonly string[] = ['good', 'bad']

/** Two tables, `good` and `bad`, mirrored by a backend in a process of its own: what becomes of `bad` alone is to keep neither `good` nor the slot from going on. */
export class GoodAndBad {
  readonly database: TestDatabase
  /** `schema.good` and `schema.bad`. */
  readonly names: readonly [good: string, bad: string]
  /** For files of the test's own. */
  private readonly directory: string
  private launched: BackendProcess | null = null
  private changes = 0

  private constructor(database: TestDatabase, directory: string, schema: string) {
    this.database = database
    this.names = [`${schema}.good`, `${schema}.bad`]
    this.directory = directory
  }

  static async create(database: TestDatabase, directory: string, schema = 'public'): Promise<GoodAndBad> {
    const pair = new GoodAndBad(database, directory, schema)
    await database.client.query(`CREATE SCHEMA IF NOT EXISTS ${schema}; SET search_path TO ${schema}`)
    await database.client.query(`CREATE TABLE good (id bigint PRIMARY KEY, note text); CREATE TABLE bad (LIKE good INCLUDING ALL)`)
    for (const table of both) await database.client.query(`INSERT INTO ${table} SELECT i, 'a' FROM generate_series(1, 500) i`)
    return pair
  }

  /** That was started last. */
  get backend(): BackendProcess {
    if (this.launched === null) throw new Error('no backend was started')
    return this.launched
  }

  /** Starts a backend, and waits for nothing. */
  launch(args: readonly string[], env: Readonly<Record<string, string>>): void {
    this.launched = BackendProcess.launch(['--source', this.database.connectionString, ...args], {
      MOONLINK_FLUSH_INTERVAL_MS: '200ms',
      ...env,
    })
  }

  async start(args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
    this.launch(args, env)
    await this.backend.ready()
  }

  async kill(): Promise<void> {
    await this.launched?.stop('SIGKILL')
  }

  /** Inserts, updates and deletes rows. */
  async change(tables: readonly string[] = both): Promise<void> {
    const note = String(++this.changes).repeat(40)
    const { client } = this.database
    for (const table of tables) {
      await client.query(`INSERT INTO ${table} SELECT $1 * 1000 + i, $2 FROM generate_series(1, 200) i`, [this.changes, note])
      await client.query(`UPDATE ${table} SET note = $1 WHERE id % 7 = $2 % 7`, [note, this.changes])
      await client.query(`DELETE FROM ${table} WHERE id % 11 = $1 % 11`, [this.changes])
    }
  }

  /** How `bad` is. */
  async state(): Promise<{ readonly state: string; readonly reason: string | null }> {
    const { state, reason } = await this.backend.table(this.names[1])
    return { state, reason }
  }

  async isState(wanted: string): Promise<void> {
    await until(`bad to be ${wanted}`, async () => (await this.state()).state === wanted)
  }

  /** Changes both tables until `bad` takes no more. */
  async changeUntilStopped(): Promise<void> {
    await until('bad to be stopped', async () => {
      await this.change()
      return ['failed', 'paused'].includes((await this.state()).state)
    })
  }

  async currentLsn(): Promise<Lsn> {
    const { rows } = await this.database.client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
    return parseLsn(rows[0].lsn)
  }

  /** Past all that was committed by now, while `good` changes. */
  async slotFollows(): Promise<void> {
    const lsn = await this.currentLsn()
    await until('the slot', async () => {
      await this.change(['good'])
      return parseLsn((await this.backend.status()).source.confirmedFlushLsn) >= lsn
    })
  }

  /** In Iceberg, too. */
  async expectEqual(): Promise<void> {
    await this.backend.wait({ iceberg: true })
    await expectVerified(this.backend.url, this.directory)
  }
}
