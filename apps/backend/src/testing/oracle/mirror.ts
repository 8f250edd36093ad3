import { join } from 'node:path'
import { formatLsn, parseLsn, type Lsn } from '@moonlink/core'
import { BackendProcess, RequestError } from '../backend-process.ts'
import type { Settings } from './commands.ts'
import { expectRows, rowTexts } from './compare.ts'
import { Dice } from './dice.ts'
import type { OracleSource } from './source.ts'
import { mirrorName, quotedTable, type OracleTable } from './tables.ts'
import { typeRules } from './types.ts'

const SAMPLED_MOMENTS = 6

/** The backend under test: started, killed, and read by SQL. */
export class OracleMirror {
  readonly warehouse: string
  /** Reads compared. */
  compared = 0
  readonly #source: OracleSource
  readonly #args: readonly string[]
  readonly #env: Readonly<Record<string, string>>
  #backend: BackendProcess | null = null
  #beside: Promise<unknown>[] = []

  constructor(source: OracleSource, url: string, stateDir: string, settings: Settings) {
    this.#source = source
    this.warehouse = join(stateDir, 'warehouse')
    const tables = source.tables.flatMap((table) => ['--table', mirrorName(table)])
    const appendOnly = source.tables.filter((table) => table.identity === 'append-only').map(mirrorName)
    this.#args = ['--source', url, '--state-dir', stateDir, ...tables]
    this.#env = {
      MOONLINK_FLUSH_INTERVAL_MS: String(settings.flushIntervalMs),
      MOONLINK_FLUSH_ROWS: String(settings.flushRows),
      MOONLINK_COMPACTION_MIN_FILES: String(settings.compactionMinFiles),
      MOONLINK_EXPIRY_MIN_SNAPSHOTS: String(settings.expiryMinSnapshots),
      MOONLINK_EXPIRY_MAX_AGE_MS: String(settings.expiryMaxAgeMs),
      MOONLINK_EXPIRY_INTERVAL_MS: '300',
      MOONLINK_SOURCE_TYPES: JSON.stringify({ time: settings.timeAs, ...typeRules }),
      MOONLINK_SOURCE_APPEND_ONLY: appendOnly.join(','),
      MOONLINK_SOURCE_TWO_PHASE: String(settings.twoPhase && source.major >= 15),
    }
  }

  async start(): Promise<void> {
    this.#backend = await BackendProcess.start(this.#args, this.#env)
  }

  /** Returns the exit status. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const status = await this.#backend!.stop(signal)
    this.#backend = null
    const failed = (await Promise.all(this.#beside.splice(0))).find((error) => error instanceof RequestError)
    if (failed !== undefined) throw failed
    return status
  }

  /** After a failure, whatever state it is in. */
  async abandon(): Promise<void> {
    await this.#backend?.stop('SIGKILL')
  }

  async flush(): Promise<void> {
    await this.#running().wait({ iceberg: true })
  }

  /** Begins a flush and does not wait for it. */
  flushBeside(): void {
    const flush = this.#running().wait({ iceberg: true })
    // A kill may cut off the answer; one that says that the flush failed is told when the backend is stopped.
    this.#beside.push(flush.catch((error: unknown) => (error instanceof RequestError && error.code !== 'STOPPING' ? error : null)))
  }

  /** Without a `wait` before it: a read of the latest state waits by itself where a start needs it to. */
  async checkLatest(): Promise<void> {
    for (const table of this.#source.tables) await this.#compare(table, null, [this.#source.latest.rows.get(table)!])
  }

  /** Reads at LSNs of a few moments that are held, the newest and the oldest among them, or of all. */
  async check(dice: Dice, reads: 'some' | 'all'): Promise<void> {
    const { moments, latest, tables } = this.#source
    // The newest first and without a wait: it may not be applied yet.
    for (const table of tables) await this.#compare(table, latest.after, [latest.rows.get(table)!])
    const held = moments.filter((moment) => moment !== latest)
    const chosen = reads === 'all' ? held : dice.some(held, SAMPLED_MOMENTS)
    for (const moment of chosen) {
      const next = moments[moments.indexOf(moment) + 1]
      for (const lsn of dice.chance(0.5) ? [moment.after] : [moment.after, next.before]) {
        for (const table of tables) await this.#compare(table, lsn, [moment.rows.get(table)!])
      }
    }
    await this.#checkTogether(dice.pick(moments))
    await this.#checkStatus()
  }

  /** All tables in one statement, at one LSN. */
  async #checkTogether({ after, rows }: OracleSource['latest']): Promise<void> {
    const counts = this.#source.tables.map((table) => `(SELECT count(*) FROM ${quotedTable(table)})`)
    const found = await this.#query(`SELECT ${counts.join(', ')}`, after)
    const expected = this.#source.tables.map((table) => rows.get(table)!.length)
    if (found !== null)
      expectRows([JSON.stringify(found[0])], [[JSON.stringify(expected)]], `row counts of all tables at ${formatLsn(after)}`)
  }

  async #checkStatus(): Promise<void> {
    await this.#running().wait()
    for (const table of this.#source.tables) {
      const report = await this.#running().table(mirrorName(table))
      const isFine =
        report.state === 'streaming' && report.reason === null && Number(report.rows) === this.#source.latest.rows.get(table)!.length
      const [committed, durable, applied] = [report.committedLsn, report.durableLsn, report.appliedLsn].map((lsn) => parseLsn(lsn!))
      if (!isFine || committed > durable || committed > applied)
        throw new Error(`the status of ${mirrorName(table)}: ${JSON.stringify(report)}`)
    }
  }

  async #compare(table: OracleTable, lsn: Lsn | null, allowed: Parameters<typeof expectRows>[1]): Promise<void> {
    const rows = await this.#query(`SELECT * FROM ${quotedTable(table)}`, lsn)
    if (rows === null) return
    expectRows(rowTexts(table, rows), allowed, `${mirrorName(table)} at ${lsn === null ? 'latest' : formatLsn(lsn)}`)
    this.compared++
  }

  /** Null where the LSN is not held any more, and may well be: below every floor. */
  async #query(sql: string, lsn: Lsn | null): Promise<unknown[][] | null> {
    try {
      return await this.#running().query(sql, lsn === null ? null : formatLsn(lsn))
    } catch (error) {
      if (!(error instanceof RequestError) || error.code !== 'LSN_NOT_HELD') throw error
      if (lsn === null || lsn >= parseLsn(String(error.context['floor']))) throw error
      return null
    }
  }

  #running(): BackendProcess {
    if (this.#backend === null) throw new Error('the backend is not running')
    return this.#backend
  }
}
