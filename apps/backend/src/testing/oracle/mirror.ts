import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatLsn, parseLsn, type Lsn } from '@moonlink/core'
import { BackendProcess, RequestError } from '../backend-process.ts'
import type { Settings } from './commands.ts'
import { expectRows, expectShown, type Shown } from './compare.ts'
import { Dice } from './dice.ts'
import type { OracleSource, TableState } from './source.ts'
import { mirrorName, quotedTable, type OracleTable } from './tables.ts'
import { typeRules } from './types.ts'

const SAMPLED_MOMENTS = 6
const SETTLE_TIMEOUT_MS = 120_000
const SETTLE_POLL_MS = 20
/** Errors of a table whose schema changed in a way that it has to be read again for, until it was. */
const UNTIL_SETTLED = new Set(['TABLE_RESYNCING', 'TABLE_COPYING', 'TABLE_PAUSED'])
/** What a table may be paused for, until it is read again. */
const PASSING_PAUSE = /: (?:SCHEMA_CHANGED|TABLE_DROPPED|TABLE_RENAMED) /

/** The backend under test: started, killed, and read by SQL. */
export class OracleMirror {
  readonly warehouse: string
  /** Reads compared. */
  compared = 0
  /** Reads that were refused, and might be. */
  refused = 0
  readonly #source: OracleSource
  readonly #args: readonly string[]
  readonly #env: Readonly<Record<string, string>>
  readonly #flushesByItself: boolean
  #backend: BackendProcess | null = null
  readonly #backends: BackendProcess[] = []
  #beside: Promise<unknown>[] = []
  /** Up to here, single LSNs may have gone into one Iceberg commit. */
  #flushedThrough: Lsn = 0n

  constructor(source: OracleSource, url: string, stateDir: string, settings: Settings, publication: string | null) {
    this.#source = source
    this.#flushesByItself = settings.flushIntervalMs < 1000 || settings.flushRows < 1000
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
      MOONLINK_SOURCE_SLOT_CHECK_MS: '500',
      ...(publication !== null && { MOONLINK_SOURCE_PUBLICATION: publication }),
      MOONLINK_SOURCE_TWO_PHASE: String(settings.twoPhase && source.major >= 15),
    }
  }

  async start(): Promise<void> {
    const backend = BackendProcess.launch(this.#args, this.#env)
    this.#backends.push(backend)
    this.#backend = backend
    await backend.ready()
    this.#flushedThrough = await this.#source.lsn()
  }

  /** Returns the exit status. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const status = await this.#backend!.stop(signal)
    this.#backend = null
    this.#source.wentBack()
    const failed = (await Promise.all(this.#beside.splice(0))).find((error) => error instanceof RequestError)
    if (failed !== undefined) throw failed
    this.#flushedThrough = await this.#source.lsn()
    return status
  }

  /** For whoever looks into a failure. */
  async describe(): Promise<{ readonly status: unknown; readonly said: string }> {
    const status = await this.#backend?.status().catch(String)
    return { status, said: this.#backends.map(({ said }) => said).join('--- started again\n') }
  }

  /** After a failure, whatever state it is in. */
  async abandon(): Promise<void> {
    await this.#backend?.stop('SIGKILL')
  }

  async flush(): Promise<void> {
    if (this.isBlocked()) return
    await this.#running().wait({ iceberg: true })
    this.#source.applied()
    this.#source.flushed()
    this.#flushedThrough = await this.#source.lsn()
  }

  /** Has a table compared. One that a row can't be told of by anything is not. */
  async resync(table: OracleTable): Promise<void> {
    if (this.isBlocked() || this.#source.isBusy || table.identity === 'append-only') return
    if (this.#source.openGaps(table.name).length > 0) return
    await this.catchUp()
    await this.#source.resyncing(table.name)
    await this.#running().post(`/tables/${encodeURIComponent(mirrorName(table))}/resync`, {})
  }

  /** Has the mirror compare itself with the source. */
  async verify(): Promise<void> {
    const { latest, tables } = this.#source
    const names = tables
      .filter(({ name }) => this.#source.openGaps(name).length === 0 && latest.tables.get(name)!.before === null)
      .map(mirrorName)
    if (names.length === 0) return
    const bad = (await this.#running().verify(names)).filter((line) => !('progress' in line) && line.result !== 'equal')
    if (bad.length > 0) throw new Error(`verified: ${JSON.stringify(bad)}`)
  }

  /** Waits until it has applied what was committed. */
  async catchUp(): Promise<void> {
    if (this.isBlocked()) return
    await this.#running().wait()
    this.#source.applied()
  }

  /** Begins a flush and does not wait for it. */
  flushBeside(): void {
    if (this.isBlocked()) return
    const flush = this.#running().wait({ iceberg: true })
    // A kill may cut off the answer; one that says that the flush failed is told when the backend is stopped.
    this.#beside.push(flush.catch((error: unknown) => (error instanceof RequestError && !mayEndFlush(error) ? error : null)))
  }

  /**
   * Whether the stream may stand still, or a table has to be read again that is not there, or can't be, since a consistent copy begins only once every open
   * transaction has ended.
   */
  isBlocked(): boolean {
    const { isBusy, isHeldUp, tables } = this.#source
    return isHeldUp || tables.some(({ isAbsent, name }) => (isBusy || isAbsent === true) && this.#source.openGaps(name).length > 0)
  }

  /** Without a `wait` before it: a read of the latest state waits by itself where a start needs it to. */
  async checkLatest(): Promise<void> {
    for (const table of this.#source.tables) await this.#compare(table, null, this.#source.latest)
  }

  /** Reads at LSNs of a few moments that are held, the newest and the oldest among them, or of all. */
  async check(dice: Dice, reads: 'some' | 'all'): Promise<void> {
    const { moments, latest, tables } = this.#source
    if (this.#source.isHeldUp) return
    if (reads === 'all' || dice.chance(0.5)) await this.#settle()
    // The newest first and without a wait: it may not be applied yet.
    for (const table of tables) await this.#compare(table, latest.after, latest)
    const held = moments.filter((moment) => moment !== latest)
    const chosen = reads === 'all' ? held : dice.some(held, SAMPLED_MOMENTS)
    for (const moment of chosen) {
      const next = moments[moments.indexOf(moment) + 1]
      for (const lsn of dice.chance(0.5) ? [moment.after] : [moment.after, next.before]) {
        for (const table of tables) await this.#compare(table, lsn, moment)
      }
    }
    await this.#checkTogether(dice.pick(moments))
    await this.#checkStatus()
  }

  /** Waits until tables that have to be read again were. From here on, every LSN is shown. */
  async #settle(): Promise<void> {
    const { gaps, latest } = this.#source
    // Before a row has followed, there is nothing that a mirror could have noticed.
    const open = gaps.filter(({ settledLsn, table }) => settledLsn === null && latest.tables.get(table)!.before === null)
    if (open.length === 0 || this.isBlocked()) return
    const names = open.map(({ table }) => table)
    // Tables that were renamed are mirrored still.
    const isElse = (name: string) => this.#source.tables.every((table) => mirrorName(table) !== name)
    await this.#running().wait()
    const deadlineMs = Date.now() + SETTLE_TIMEOUT_MS
    for (;;) {
      const tables = await this.#running().tables()
      const waiting = tables.filter(
        ({ name, reason, state }) =>
          (names.includes(name.replace(/^public\./, '')) || isElse(name)) && (state !== 'streaming' || reason !== null),
      )
      if (waiting.length === 0) break
      if (Date.now() > deadlineMs) throw new Error(`not read again: ${JSON.stringify(waiting)}`)
      await sleep(SETTLE_POLL_MS)
    }
    for (const { isSilent, table } of open) if (isSilent) await this.#noticed(table, deadlineMs)
    this.#source.settled(open, await this.#source.lsn())
  }

  /** Waits until it shows what became of a table that nothing told of. */
  async #noticed(name: string, deadlineMs: number): Promise<void> {
    const { latest, tables } = this.#source
    const table = tables.find((one) => one.name === name)!
    for (;;) {
      try {
        return expectShown(
          await this.#running().read(`SELECT * FROM ${quotedTable(table)}`, null),
          [latest.tables.get(name)!],
          mirrorName(table),
        )
      } catch (error) {
        if (Date.now() > deadlineMs) throw error
        await sleep(SETTLE_POLL_MS)
      }
    }
  }

  /** All tables in one statement, at one LSN. */
  async #checkTogether(moment: OracleSource['latest']): Promise<void> {
    const states = [...moment.tables.values()]
    const isUnknown = ({ before, rows, table }: TableState) =>
      before !== null || rows === null || table.isAbsent === true || this.#source.isHidden(table.name, moment.after)
    if (states.some(isUnknown)) return
    const counts = states.map(({ table }) => `(SELECT count(*) FROM ${quotedTable(table)})`)
    const found = await this.#query(`SELECT ${counts.join(', ')}`, moment.after, this.#source.tables)
    const expected = states.map(({ rows }) => rows!.length)
    if (found !== null)
      expectRows([JSON.stringify(found.rows[0])], [[JSON.stringify(expected)]], `row counts of all tables at ${formatLsn(moment.after)}`)
  }

  async #checkStatus(): Promise<void> {
    if (this.isBlocked()) return
    await this.catchUp()
    for (const table of this.#source.tables) {
      if (this.#source.openGaps(table.name).length > 0) continue
      const report = await this.#running().table(mirrorName(table))
      const { rows } = this.#source.latest.tables.get(table.name)!
      const isFine = report.state === 'streaming' && report.reason === null && (rows === null || report.rows === rows.length)
      const [committed, durable, applied] = [report.committedLsn, report.durableLsn, report.appliedLsn].map((lsn) => parseLsn(lsn!))
      if (!isFine || committed > durable || committed > applied)
        throw new Error(`the status of ${mirrorName(table)}: ${JSON.stringify(report)}`)
    }
  }

  async #compare(table: OracleTable, lsn: Lsn | null, moment: OracleSource['latest']): Promise<void> {
    const shown = await this.#query(`SELECT * FROM ${quotedTable(table)}`, lsn, [table])
    if (shown === null || this.#source.isHidden(table.name, lsn)) return
    const state = this.#source.stateAt(moment, table.name, lsn)
    const what = `${mirrorName(table)} at ${lsn === null ? 'latest' : formatLsn(lsn)}`
    if (state.table.isAbsent === true) throw new Error(`${what}: ${shown.rows.length} rows of a table that was dropped`)
    expectShown(shown, [state], what)
    this.compared++
  }

  /** Null where the LSN may well not be held any more, or not be shown yet. One from before a table is read again is shown soon, whatever hinders that. */
  async #query(sql: string, lsn: Lsn | null, tables: readonly OracleTable[]): Promise<Shown | null> {
    const deadlineMs = Date.now() + SETTLE_TIMEOUT_MS
    for (;;) {
      try {
        return await this.#running().read(sql, lsn === null ? null : formatLsn(lsn))
      } catch (error) {
        if (!(error instanceof RequestError)) throw error
        if (this.#mayRefuse(error, lsn, tables)) break
        const isPassing = UNTIL_SETTLED.has(error.code) && tables.some(({ name }) => this.#source.openGaps(name).length > 0)
        if (!isPassing || Date.now() > deadlineMs) throw error
        await sleep(SETTLE_POLL_MS)
      }
    }
    this.refused++
    return null
  }

  #mayRefuse({ code, context, message }: RequestError, lsn: Lsn | null, tables: readonly OracleTable[]): boolean {
    const names = tables.map(({ name }) => name)
    if (UNTIL_SETTLED.has(code)) {
      const isOpen = names.some((name) => {
        const isLasting = this.#source.gaps.some((gap) => gap.table === name && gap.isLasting && (lsn === null || gap.fromLsn <= lsn))
        const isAmid = this.#source.openGaps(name).some((gap) => gap.isAmid)
        return isLasting || isAmid || this.#source.gapsAt(name, lsn).some(({ settledLsn }) => settledLsn === null)
      })
      return isOpen && (code !== 'TABLE_PAUSED' || PASSING_PAUSE.test(message))
    }
    if (code !== 'LSN_NOT_HELD' || lsn === null || lsn >= parseLsn(String(context['floor']))) return false
    // What a table is read again with is committed, and what came before with it.
    const settled = this.#source.gaps.filter(({ table }) => names.includes(table)).map((gap) => (gap.isLasting ? null : gap.settledLsn))
    const isCommitted = this.#flushesByItself || this.#beside.length > 0 || settled.some((through) => through === null || lsn <= through)
    return isCommitted || lsn <= this.#flushedThrough
  }

  #running(): BackendProcess {
    if (this.#backend === null) throw new Error('the backend is not running')
    return this.#backend
  }
}

/** What may come while a flush is waited for: the backend stops, Postgres crashes, or a table is paused to be read again. */
function mayEndFlush({ code, message }: RequestError): boolean {
  return (
    ['STOPPING', 'PG_STARTING', 'PG_UNREACHABLE', 'PG_CONNECTION_LOST'].includes(code) ||
    (code === 'TABLE_PAUSED' && PASSING_PAUSE.test(message))
  )
}
