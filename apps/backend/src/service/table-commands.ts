import { formatTableName, isMoonlinkError, MoonlinkError, type TableName } from '@moonlink/core'
import type { Config } from '../config/schema.ts'
import type { ListedTable, TablesReport } from '../http/schemas.ts'
import type { Acknowledger } from './acknowledger.ts'
import type { BackendParts } from './backend-parts.ts'
import type { MirrorSet } from './mirror-set.ts'
import { COPY_ENDED, isPausedByRequest, PAUSED_BY_REQUEST } from './mirrors.ts'
import { notMirrored } from './not-mirrored.ts'
import type { OneAtATime } from './one-at-a-time.ts'
import type { ListedSourceTable } from './parts.ts'
import type { RememberedTables } from './remembered-tables.ts'
import type { StreamLoop } from './stream-loop.ts'
import { listWith, mirrorable } from './table-set.ts'
import type { UnfinishedPurges } from './unfinished-purges.ts'

/** How long what the catalog says of a table waits for the stream, before it is looked at anew. */
const catchUpMs = 5000

export interface TableCommandsOptions extends Pick<BackendParts, 'config' | 'engine' | 'lease' | 'logger' | 'source'> {
  readonly mirrors: MirrorSet
  readonly loop: StreamLoop
  readonly acknowledger: Acknowledger
  readonly remembered: RememberedTables
  readonly purges: UnfinishedPurges
  /** What changes the set of tables takes its turn. */
  readonly changes: OneAtATime
}

/** Adds, pauses, resyncs, drops and lists tables while the backend runs. */
export class TableCommands {
  readonly #options: TableCommandsOptions

  constructor(options: TableCommandsOptions) {
    this.#options = options
  }

  async list(): Promise<TablesReport> {
    const { mirrors, purges, source } = this.#options
    const known = [...new Set([...mirrors.known(), ...purges.reasons.keys()])]
    let listed: readonly ListedSourceTable[]
    try {
      listed = await source.listTables()
    } catch (error) {
      if (!isMoonlinkError(error, 'retry')) throw error
      const tables = known.map((name) => this.#listed(name, [], null))
      return { tables, sourceReason: `${error.code} ${error.message}` }
    }
    const there = listed.map(({ notes, refusal, table }) => this.#listed(formatTableName(table), notes, refusal?.reason ?? null))
    const names = new Set(there.map(({ name }) => name))
    const gone = known.filter((name) => !names.has(name))
    return {
      tables: [...there, ...gone.map((name) => this.#listed(name, [], 'the source has no such table any more'))],
      sourceReason: null,
    }
  }

  /** `otherwise` says what there is to say where the mirror itself does not. */
  #listed(name: string, notes: readonly string[], otherwise: string | null): ListedTable {
    const { engine, mirrors, purges } = this.#options
    const mirror = engine.mirror(name)?.status()
    const waitsFor = mirrors.waitingFor(name)
    if (mirror !== undefined) return { name, notes, mirrored: true, state: mirror.state, reason: waitsFor ?? mirror.reason ?? otherwise }
    if (waitsFor !== null) return { name, notes, mirrored: true, state: 'copying', reason: waitsFor }
    const unopened = mirrors.unopened.reasons.get(name)
    if (unopened !== undefined) return { name, notes, mirrored: true, state: 'failed', reason: unopened }
    // A mirrored one that has no mirror is being opened anew.
    const mirrored = mirrors.has(name)
    return { name, notes, mirrored, state: mirrored ? 'copying' : null, reason: purges.reasons.get(name) ?? otherwise }
  }

  /**
   * Those that another session of the source keeps locked are taken up once they are free. Throws `retry`/`NOT_RECORDED` where a restart might forget them yet, and `retry`/`PURGE_UNFINISHED` where
   * files are left of what had the name before.
   */
  async add(tables: readonly string[]): Promise<void> {
    const { mirrors, purges, remembered, source } = this.#options
    for (const name of tables) await purges.finishBefore(name)
    await this.#inTurn(async () => {
      const listed = await listWith(source, tables)
      const chosen = [...new Set(tables)].map((name) => mirrorable(listed, name))
      const names = chosen.map(({ table }) => formatTableName(table))
      const twice = names.find((name) => mirrors.has(name) && remembered.isRecorded(name))
      if (twice !== undefined) throw new MoonlinkError('conflict', 'TABLE_EXISTS', `${twice} is mirrored already.`)
      for (const name of names) purges.requireFinished(name)
      await this.#begin(chosen.filter(({ table }) => !mirrors.has(formatTableName(table))))
      await this.#record(`moonlink tables add ${names.join(' ')}`)
    })
  }

  /** Not where another backend has taken over: it alone changes what is published. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const { changes, lease } = this.#options
    return changes.run(async () => {
      await lease?.check()
      await work()
    })
  }

  async #begin(chosen: readonly ListedSourceTable[]): Promise<void> {
    const { loop, mirrors, remembered } = this.#options
    if (chosen.length === 0) return
    const names = chosen.map(({ table }) => formatTableName(table))
    const left = await loop.pausedFor(() => mirrors.add(chosen))
    for (const name of left) mirrors.unopened.delete(name)
    mirrors.locked.add(chosen.flatMap(({ table }) => (left.has(formatTableName(table)) ? [table] : [])))
    remembered.add(names)
    void mirrors.copies.runOrPause(names.filter((name) => !left.has(name)))
  }

  /** Writes down what `command` has done. Throws `retry`/`NOT_RECORDED` where that fails: it is tried again by itself, too. */
  async #record(command: string): Promise<void> {
    try {
      await this.#options.acknowledger.remember()
    } catch (error) {
      throw notRecorded(command, error)
    }
  }

  /** Begins to mirror a table that was locked, and is published by now, or to make it equal to its source. */
  async takeUp(table: TableName): Promise<void> {
    const { acknowledger, changes, engine, loop, mirrors, source } = this.#options
    const name = formatTableName(table)
    await changes.run(async () => {
      // It may have been dropped meanwhile.
      if (!mirrors.locked.has(name)) return
      if (engine.mirror(name) !== undefined) return this.#beginResync(name, 'it was not in the publication for a while')
      const listed = mirrorable(await source.listTables([table]), name)
      const left = await loop.pausedFor(() => mirrors.add([listed]))
      if (left.has(name)) return
      await mirrors.locked.delete(name)
      void mirrors.copies.runOrPause([name])
      // What can't be written down now is before the first commit of its rows.
      await acknowledger.remember()
    })
  }

  /** Opens a table that could not be at the start, and lets it go on. Throws what keeps it from that; the others go on meanwhile. */
  async openAgain(name: string): Promise<void> {
    const { engine, loop, mirrors } = this.#options
    await this.#inTurn(async () => {
      // It may have been dropped meanwhile.
      if (!mirrors.unopened.has(name)) return
      try {
        const missed = await mirrors.openAgain(name)
        const phase = engine.mirror(name)?.currentPhase
        if (missed !== null) await this.#beginResync(name, missed)
        else if (phase === 'copying') void mirrors.copies.runOrPause([name])
        // It takes changes from the next stream on.
        else if (phase === 'streaming') await loop.pausedFor(async () => undefined)
        mirrors.unopened.delete(name)
      } catch (error) {
        await engine.removeMirror(name)
        throw error
      }
    })
  }

  /** Publishes no more what is mirrored no more, and was locked when it was to go. */
  async unpublish(): Promise<void> {
    const { changes, source } = this.#options
    if (source.publishesTooMuch) await changes.run(() => source.unpublish())
  }

  /** Makes a table equal to its source whose publication is another, also where that made a change fail; one that is copied or paused is made so anyway. */
  async republished(table: string, reason: string): Promise<void> {
    const { engine, mirrors } = this.#options
    mirrors.unopened.letGo(reason, table)
    const mirror = engine.mirror(table)
    const hasDiverged = mirror?.status().reason?.startsWith('DIVERGED ') === true
    if (mirror?.currentPhase === 'streaming' || hasDiverged) await this.resyncUnasked(table, reason)
  }

  /** A given publication has a table that it did not have: it is mirrored too, unless the configuration names tables. */
  async published(table: string): Promise<void> {
    const { config, logger, mirrors, remembered } = this.#options
    if (mirrors.has(table) || remembered.wasDropped(table)) return
    if (config.source.tables.length > 0) logger.info('the publication has another table; moonlink tables add mirrors it', { table })
    else await this.add([table])
  }

  /** Pauses a table for what the catalog says of it; one that is gone, once the stream is there too, so that its last changes are taken. */
  async pauseAsTold(table: string, code: string, reason: string): Promise<void> {
    const { engine, mirrors, source } = this.#options
    mirrors.unopened.letGo(reason, table)
    const mirror = engine.mirror(table)
    // What it was paused for before tells more.
    if (mirror === undefined || mirror.currentPhase === 'paused') return
    const isGone = code === 'TABLE_DROPPED' || code === 'TABLE_RENAMED'
    // One that is being copied is copied as it is now; what has changed since is met again.
    if ((isGone || code === 'SCHEMA_CHANGED') && mirror.currentPhase !== 'streaming') return
    if (isGone) await engine.waitApplied(await source.currentLsn(), catchUpMs)
    await mirror.pause(code, reason)
  }

  /**
   * Until it is made equal to its source by request: what it was paused for before, and would have gone on after, counts no more. Throws `retry`/`NOT_RECORDED` where a
   * restart might forget it yet, and `fenced`/`LEASE_LOST` where a successor might, which opens its tables once it has the lease.
   */
  async pause(table: string): Promise<void> {
    const { lease, mirrors } = this.#options
    const mirror = mirrors.mirror(table)
    await mirrors.locked.delete(table)
    try {
      await mirror.pauseFor(PAUSED_BY_REQUEST, `by request; moonlink tables resume ${table} goes on.`)
    } catch (error) {
      throw notRecorded(`moonlink tables pause ${table}`, error)
    }
    await lease?.check()
  }

  /** Makes a table equal to its source. One that the source has renamed goes on under its new name. */
  async resync(table: string, reason: string): Promise<void> {
    await this.#resync(table, reason, true)
  }

  /** As `resync`, where nobody has asked for it: a table that is paused by request when its turn comes stays so. */
  async resyncUnasked(table: string, reason: string): Promise<void> {
    await this.#resync(table, reason, false)
  }

  async #resync(table: string, reason: string, isAsked: boolean): Promise<void> {
    const { mirrors } = this.#options
    if (await this.#followRename(table)) return
    await this.#inTurn(async () => {
      if (!isAsked && isPausedByRequest(mirrors.mirror(table).status().reason)) return
      if (mirrors.mirror(table).currentPhase === 'copying')
        throw new MoonlinkError('retry', 'TABLE_COPYING', `${table} is being copied already.`, { context: { table } })
      await this.#beginResync(table, reason)
    })
  }

  /** Where it is locked, that is waited for beside the others. */
  async #beginResync(table: string, reason: string): Promise<void> {
    const { acknowledger, logger, loop, mirrors } = this.#options
    const { begun } = await loop.pausedFor(() => mirrors.beginResync([table], reason))
    void mirrors.copies.runOrPause(begun)
    // The table itself says that it is made equal; how it is published is written down before its rows are committed.
    await acknowledger.remember().catch((error: unknown) => {
      if (!isMoonlinkError(error, 'retry')) throw error
      logger.warn('how a table is published could not be written down yet; it is tried again', { table, error: error.message })
    })
  }

  /**
   * Throws `retry`/`NOT_RECORDED` where a restart might mirror it again yet: nothing of it is removed before, and `retry`/`PURGE_UNFINISHED` where files are left: they are removed by itself, unless
   * the table is dropped again without `purge`.
   */
  async drop(table: string, purge: boolean): Promise<void> {
    const { loop, mirrors, purges, remembered, source } = this.#options
    await this.#inTurn(async () => {
      const isMirrored = mirrors.has(table) || mirrors.unopened.has(table)
      const isUnfinished = remembered.wasDropped(table) && (purge || purges.has(table) || !remembered.isRecorded(table))
      if (!isMirrored && !isUnfinished) throw notMirrored(table, mirrors.known())
      // Where the catalog is away, nothing has changed.
      const purged = purge && !purges.has(table) ? await purges.identify(table) : null
      if (isMirrored) {
        // Where the source is away, nothing has changed.
        await source.position()
        await mirrors.locked.delete(table)
        try {
          await mirrors.copies.end(table)
          await loop.pausedFor(() => mirrors.remove(table, !purge))
        } catch (error) {
          // Who has taken over copies it.
          if (!isMoonlinkError(error, 'fenced')) await this.#copyOn(table)
          throw error
        }
        remembered.drop(table)
      }
      if (purged !== null) purges.begin(table, purged)
      if (!purge) await purges.giveUp(table)
      // A successor mirrors what it does not know to be dropped, or was told to add again: one that comes after this knows.
      await this.#record(`moonlink tables drop ${table}${purge ? ' --purge' : ''}`)
    })
    if (purge) await purges.finish(table)
  }

  /** Begins the copy again of a table that could not be dropped; where that fails too, it is tried later (`CopyRestarts`). */
  async #copyOn(table: string): Promise<void> {
    const { engine, logger } = this.#options
    if (engine.mirror(table)?.status().reason?.startsWith(`${COPY_ENDED} `) !== true) return
    await this.#beginResync(table, 'it could not be dropped').catch((error: unknown) =>
      logger.warn('a copy could not be begun again; tried again later', { table, error: String(error) }),
    )
  }

  /**
   * Mirrors a renamed table under its new name, and ends its mirror under the old one, whose Iceberg table stays. False where it was not renamed, or another
   * table has the old name now: that is what the mirror has to show then.
   */
  async #followRename(table: string): Promise<boolean> {
    const { config, logger, mirrors, source } = this.#options
    const mirror = mirrors.mirror(table)
    if (mirror.status().reason?.startsWith('TABLE_RENAMED ') !== true) return false
    const now = await source.nameNow(mirror.shape)
    if (now === null || formatTableName(now) === table) return false
    const name = formatTableName(now)
    refuseUnlessSetFor(config.source, table, name)
    if (!mirrors.has(name)) await this.add([name])
    logger.info('the table was renamed, and is mirrored under its new name', { table, now: name })
    const [{ refusal }] = await source.listTables([mirror.status().table])
    if (refusal === null) return false
    await this.drop(table, false)
    return true
  }
}

/** What a restart might forget yet is no success. That another backend has taken over, or the table is mirrored no more, is thrown as it is. */
function notRecorded(command: string, error: unknown): unknown {
  if (!isMoonlinkError(error) || error.kind === 'fenced' || error.kind === 'bug' || error.code === 'TABLE_CLOSED') return error
  const message = `it holds while this backend runs, but could not be recorded for the next one: ${error.message} It is tried again all the time; ${command} again says whether it is done.`
  return new MoonlinkError('retry', 'NOT_RECORDED', message, { cause: error })
}

/** What is set for a table under its old name must be so under its new one: else columns that are left out would be mirrored. */
function refuseUnlessSetFor({ appendOnly, columns, excludeColumns }: Config['source'], table: string, now: string): void {
  const settings: readonly [string, readonly string[]][] = [
    ['source.excludeColumns', Object.keys(excludeColumns)],
    ['source.columns', Object.keys(columns)],
    ['source.appendOnly', appendOnly],
  ]
  const lacking = settings.find(([, tables]) => tables.includes(table) && !tables.includes(now))
  if (lacking === undefined) return
  throw new MoonlinkError(
    'invalid',
    'TABLE_RENAMED',
    `${table} is called ${now} now, and ${lacking[0]} names it ${table}. Say the same of ${now} there, start again, and run moonlink tables add ${now} and moonlink tables drop ${table}.`,
    { context: { table, now } },
  )
}
