import {
  formatTableName,
  formatType,
  isMoonlinkError,
  MoonlinkError,
  parseTableName,
  type Lsn,
  type TableName,
  type TableSchema,
} from '@moonlink/core'
import type { Mirror, ResyncSource } from '@moonlink/table-engine'
import type { BackendParts } from './backend-parts.ts'
import { TABLE_LOCKED, type LockedTables } from './locked-tables.ts'
import {
  isCovered,
  isLeftPaused,
  isOutdated,
  isTableError,
  openBeside,
  openMirror,
  type Coverage,
  type OpenMirrorOptions,
} from './mirrors.ts'
import { notMirrored } from './not-mirrored.ts'
import { mayBeAlone, mayPassAlone, openTables } from './open-tables.ts'
import type { ListedSourceTable } from './parts.ts'
import { RunningCopies } from './running-copies.ts'
import { mirrorable } from './table-set.ts'
import type { UnopenedTables } from './unopened-tables.ts'

const copyPollMs = 50
/** What a locked table is waited for while no other's changes are applied. */
export const publishLockTimeoutMs = 500

const PUBLISH_ATTEMPTS = 5

interface Published {
  readonly slotLsn: Lsn
  /** Names of all that are locked. */
  readonly locked: ReadonlySet<string>
}

/** The mirrored tables of a backend: opens and publishes them, copies those that are new. */
export class MirrorSet {
  /** Tables that could not be opened, and why. */
  readonly unopened: UnopenedTables
  /** Tables that are opened, or made equal to their source, once they are free. */
  readonly locked: LockedTables
  readonly copies: RunningCopies
  readonly #parts: BackendParts
  readonly #coverage: Coverage
  readonly #listed = new Map<string, ListedSourceTable>()

  constructor(parts: BackendParts, coverage: Coverage, locked: LockedTables, unopened: UnopenedTables) {
    this.#parts = parts
    this.unopened = unopened
    this.locked = locked
    this.copies = new RunningCopies({
      ...parts,
      openAnew: (name) => this.#openAnew(name),
      isOpenedAnew: (name) => this.copying().includes(name),
    })
    this.#coverage = coverage
  }

  /** What streams now. */
  comparable(): { readonly table: TableName }[] {
    return [...this.#listed.values()].flatMap(({ table }) => {
      const mirror = this.#parts.engine.mirror(formatTableName(table))
      return mirror?.currentPhase === 'streaming' && !mirror.isCatchingUp ? [{ table }] : []
    })
  }

  has(name: string): boolean {
    return this.#listed.has(name) || this.locked.has(name)
  }

  /** A table's mirror. Throws why there is none: `invalid`/`TABLE_UNKNOWN`, `invalid`/`TABLE_PAUSED`, or `retry`/`TABLE_COPYING` where there will be one. */
  mirror(name: string): Mirror {
    const mirror = this.#parts.engine.mirror(name)
    if (mirror !== undefined) return mirror
    const unopened = this.unopened.reasons.get(name)
    if (unopened !== undefined) throw new MoonlinkError('invalid', 'TABLE_PAUSED', `${name} is failed: ${unopened}`)
    if (!this.has(name)) throw notMirrored(name, this.known())
    const reason = this.locked.reasons.get(name) ?? 'it is being opened'
    throw new MoonlinkError('retry', 'TABLE_COPYING', `${name} is not copied yet: ${reason}`, { context: { table: name } })
  }

  /** What a table waits for, such as a transaction of the source or the next attempt of its copy, and what ends that; null where it does not. */
  waitingFor(name: string): string | null {
    const wait = this.#parts.source.waits().find(({ tables }) => tables.some((table) => formatTableName(table) === name))
    return wait?.reason ?? this.locked.reasons.get(name) ?? this.copies.troubles.get(name) ?? null
  }

  /** What is worth knowing of a table's mirror, as of when the table was looked at last. */
  notes(name: string): readonly string[] {
    return this.#listed.get(name)?.notes ?? []
  }

  /** Names of all tables, those that take no changes, could not be opened or are locked among them. */
  known(): string[] {
    return [...new Set([...this.#listed.keys(), ...this.unopened.reasons.keys(), ...this.locked.reasons.keys()])]
  }

  /** Names of the tables that take changes, now or once they are copied. */
  live(): string[] {
    const { engine } = this.#parts
    return [...this.#listed.keys()].filter((name) => ['copying', 'streaming'].includes(engine.mirror(name)?.currentPhase ?? ''))
  }

  /** Names of the tables of which slot and log have all that Iceberg lacks: those that are live, and those that go on once they can be opened. */
  covered(): string[] {
    return [...new Set([...this.live(), ...this.unopened.keeping])]
  }

  /** As `live`, and those that are opened anew just now, or go on once they can be: what comes of them meanwhile is wanted. */
  #published(): string[] {
    return [...this.#listed.keys()].filter((name) => {
      const mirror = this.#parts.engine.mirror(name)
      if (mirror === undefined) return !this.unopened.has(name) || this.unopened.keepsChanges(name)
      return ['copying', 'streaming'].includes(mirror.currentPhase)
    })
  }

  /** Names of the tables that are copied, or apply what changed meanwhile. */
  copying(): string[] {
    return [...this.#listed.keys()].filter((name) => {
      const mirror = this.#parts.engine.mirror(name)
      // Without one it is being opened anew.
      if (mirror === undefined) return !this.unopened.has(name)
      return mirror.currentPhase === 'copying' || mirror.isCatchingUp
    })
  }

  /** Waits until no table is being copied. Throws `retry`/`TIMED_OUT`. */
  async waitCopied(deadlineMs: number): Promise<void> {
    const { clock } = this.#parts
    for (;;) {
      const [copying] = this.copying()
      if (copying === undefined) return
      if (clock.nowMs() >= deadlineMs)
        throw new MoonlinkError('retry', 'TIMED_OUT', `${copying} is still being copied; wait longer with --timeout.`)
      await clock.sleep(copyPollMs)
    }
  }

  /** Names of the tables that can be flushed as they are: no transaction is open in them. */
  flushable(): string[] {
    return this.live().filter((name) => {
      const mirror = this.#parts.engine.mirror(name)
      return mirror?.currentPhase === 'streaming' && !mirror.hasOpenTransaction
    })
  }

  /** Opens tables at a start, those that are published and of the locked ones those that need not be: they are paused. The others wait. */
  async openStarted(published: readonly ListedSourceTable[], locked: readonly ListedSourceTable[]): Promise<void> {
    const paused: ListedSourceTable[] = []
    for (const listed of locked) {
      // What can't be told of one yet is told when it is taken up.
      const isPaused = await isLeftPaused(listed, this.#parts.warehouse).catch((error: unknown) => {
        if (isTableError(error) || mayPassAlone(error)) return false
        throw error
      })
      if (isPaused) paused.push(listed)
      else this.locked.add([listed.table])
    }
    await this.#openAll([...published, ...paused])
  }

  /** Those that can't be opened are tried again later; but where that is so of all, it is thrown. */
  async #openAll(tables: readonly ListedSourceTable[]): Promise<void> {
    for (const listed of tables) this.#listed.set(formatTableName(listed.table), listed)
    const failed = await openTables(tables, (listed) => this.#openStarted(listed))
    for (const [name, error] of failed) this.unopened.tryAgain(name, error, mayPassAlone(error) && isCovered(name, this.#coverage))
    await this.#publish()
  }

  async #openStarted(listed: ListedSourceTable): Promise<void> {
    try {
      await this.#open(listed, false)
    } catch (error) {
      await this.#parts.engine.removeMirror(formatTableName(listed.table))
      throw error
    }
    this.#opened(listed)
  }

  #opened(listed: ListedSourceTable): void {
    const { engine, source } = this.#parts
    const mirror = engine.mirror(formatTableName(listed.table))
    if (mirror?.status().reason?.startsWith(`${TABLE_LOCKED} `) === true) this.locked.add([listed.table])
    if (mirror?.currentPhase !== 'streaming' || mirror.committedLsn === null || mirror.committedTimeline === null) return
    source.history.committed(mirror.committedTimeline, mirror.committedLsn)
  }

  /**
   * Opens a table that could not be at the start, beside a stream that may be open. Returns why it has to be made equal to its source (`beginResync`), and takes nothing until then; or null where it is
   * to be copied, is paused, or goes on in the next stream.
   */
  async openAgain(name: string): Promise<string | null> {
    const listed = await this.#listAgain(name)
    const missed = this.unopened.keepsChanges(name) ? null : 'it could not be opened, and its changes were not kept'
    const reason = await openBeside(listed, { ...this.#openOptions(), again: false, missed })
    if (reason === null) this.#opened(listed)
    // What it is copied beside has to be published first.
    return reason ?? (this.#parts.engine.mirror(name)!.currentPhase === 'copying' ? missed : null)
  }

  /** Adds tables while no stream is open: all or none. They are to be copied then. Leaves out those that another session keeps locked, and returns their names. */
  async add(tables: readonly ListedSourceTable[]): Promise<ReadonlySet<string>> {
    const names = tables.map(({ table }) => formatTableName(table))
    let left: ReadonlySet<string>
    try {
      // Published first: what changes after the copy began must be in the stream.
      left = (await this.#publish(tables)).locked
      for (const listed of tables) {
        const name = formatTableName(listed.table)
        if (left.has(name)) continue
        await this.#open(listed, true, true)
        this.#listed.set(name, listed)
      }
    } catch (error) {
      for (const name of names) await this.#forget(name)
      await this.#publish().catch(() => undefined)
      throw error
    }
    for (const name of names) this.unopened.delete(name)
    return new Set(names.filter((name) => left.has(name)))
  }

  /** Removes a table while no stream is open; with its last changes committed where it `keeps` its Iceberg table. Where that or the source fails, it stays as it was. */
  async remove(name: string, keeps: boolean): Promise<void> {
    if (keeps && this.flushable().includes(name)) await this.#parts.engine.mirror(name)?.flushWhole()
    await this.#publish([], name)
    await this.#forget(name)
    this.unopened.delete(name)
  }

  /**
   * Begins to make tables equal to their source again, while no stream is open. Returns where the slot is, and those that are to be copied then: one that has to be
   * published and is locked waits. What fails before a table is published leaves all as they are. One whose files or catalog alone refuse is paused for that, or failed; where that is so of all, it is thrown.
   */
  async beginResync(names: readonly string[], reason: string): Promise<{ readonly slotLsn: Lsn; readonly begun: readonly string[] }> {
    for (const name of names) await this.#listAgain(name)
    const { locked, slotLsn } = await this.#publish(names.map((name) => this.#listed.get(name)!))
    const begun = names.filter((name) => !locked.has(name))
    for (const name of names) {
      if (locked.has(name)) await this.#awaitUnlocked(name)
      else await this.locked.delete(name)
    }
    const left = new Map<string, MoonlinkError>()
    for (const name of begun) {
      await this.#beginOne(name, reason).catch((error: unknown) => {
        if (!isMoonlinkError(error) || !mayBeAlone(error)) throw error
        left.set(name, error)
      })
    }
    const [first] = left.values()
    if (first !== undefined && left.size === begun.length) throw first
    // It misses changes: taking more would bring it no nearer to its source.
    for (const [name, { code, message }] of left) await this.#parts.engine.mirror(name)?.pause(code, message)
    return { slotLsn, begun: begun.filter((name) => !left.has(name)) }
  }

  async #beginOne(name: string, reason: string): Promise<void> {
    const mirror = this.#parts.engine.mirror(name)!
    const source = await this.#sourceNow(name, mirror)
    const { appendOnly } = this.#listed.get(name)!
    // What was copied only in part begins anew.
    if (mirror.committedLsn === null) await this.#reopen(name, true)
    else if (isOutdated(mirror.status().reason)) await this.#reopen(name, false)
    else if (!appendOnly) await mirror.beginResync(reason, source)
    else await this.#reopen(name, false)
  }

  /** A locked table can't be mirrored after all, or not yet. */
  async refuse(name: string, error: MoonlinkError): Promise<void> {
    const { code, message } = error
    const mirror = this.#parts.engine.mirror(name)
    // What can't be recorded is met again after a restart.
    if (mirror !== undefined) await mirror.pauseFor(code, message).catch(() => undefined)
    else if (mayPassAlone(error)) this.unopened.tryAgain(name, error, false)
    else this.unopened.refuse(name, `${code} ${message}`)
  }

  async #listAgain(name: string): Promise<ListedSourceTable> {
    const listed = mirrorable(await this.#parts.source.listTables([parseTableName(name)]), name)
    this.#listed.set(name, listed)
    return listed
  }

  /** The source's table as it is now, as its mirror has to be. Throws where it can't. */
  async #sourceNow(name: string, mirror: Mirror): Promise<ResyncSource> {
    const { source } = this.#parts
    const listed = await this.#listAgain(name)
    const now = await source.evolved(listed.table, mirror.shape)
    if (listed.appendOnly && describe(now.shape.schema) !== describe(mirror.shape.schema)) {
      throw new MoonlinkError(
        'invalid',
        'SCHEMA_INCOMPATIBLE',
        `${name} can't take on the source's columns: it is append-only, and has no key to compare rows by. Drop it with --purge and add it again.`,
        { context: { table: name } },
      )
    }
    return { ...now, asOfLsn: await source.asOfLsn(), isJustOpened: false }
  }

  /** Takes up tables that are locked, or could not be opened, once that is possible. */
  startTakingUp(): void {
    this.locked.start()
    this.unopened.start()
  }

  /** Resolves once none is being taken up. */
  async stopTakingUp(): Promise<void> {
    await Promise.all([this.locked.stop(), this.unopened.stop()])
  }

  async #open(listed: ListedSourceTable, again: boolean, reshapesEmpty = false): Promise<void> {
    await openMirror(listed, { ...this.#openOptions(), again, reshapesEmpty })
  }

  #openOptions(): Pick<OpenMirrorOptions, 'engine' | 'logger' | 'source' | 'warehouse' | 'coverage'> {
    const { engine, logger, source, warehouse } = this.#parts
    return { engine, logger, source, warehouse, coverage: this.#coverage }
  }

  /**
   * Of a table that is copied whole. Where its copy never ended, as far as is known, it need not keep its shape, nor why it was paused. What fails of it is tried again, as of one that can't be opened at a
   * start.
   */
  async #reopen(name: string, wasNeverCopied: boolean): Promise<void> {
    const { engine } = this.#parts
    try {
      await engine.reopenMirror(name, () => this.#open(this.#listed.get(name)!, true, wasNeverCopied))
    } catch (error) {
      await engine.removeMirror(name)
      this.unopened.tryAgain(name, error, false)
      throw error
    }
  }

  async #openAnew(name: string): Promise<Mirror> {
    await this.#parts.engine.reopenMirror(name, () => this.#open(this.#listed.get(name)!, false))
    return this.#parts.engine.mirror(name)!
  }

  async #forget(name: string): Promise<void> {
    await this.#parts.engine.removeMirror(name)
    this.#listed.delete(name)
  }

  /** It misses changes until it is published. */
  async #awaitUnlocked(name: string): Promise<void> {
    const reason =
      'it is not in the publication any more, and locked, so changes of it are missed; it is made equal to its source once it is free.'
    const mirror = this.#parts.engine.mirror(name)
    if (this.live().includes(name)) mirror?.pauseBeside(TABLE_LOCKED, reason)
    else await mirror?.pauseFor(TABLE_LOCKED, reason)
    this.locked.add([this.#listed.get(name)!.table])
  }

  /**
   * Publishes what takes changes, and `more`, without `left`. A table that can't be mirrored any more, or has to be published and is locked, is paused, and keeps no other from going on.
   */
  async #publish(more: readonly ListedSourceTable[] = [], left: string | null = null): Promise<Published> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#publishListed(more, left)
      } catch (error) {
        // What was dropped since it was listed is refused by the next list.
        const isGone = isMoonlinkError(error) && error.code === 'TABLE_UNKNOWN'
        if (!isGone || attempt === PUBLISH_ATTEMPTS) throw error
      }
    }
  }

  async #publishListed(more: readonly ListedSourceTable[], left: string | null): Promise<Published> {
    const { engine, source } = this.#parts
    const names = () => this.#published().filter((name) => name !== left)
    const found = await source.listTables(names().map((name) => this.#listed.get(name)!.table))
    const refused = new Set<string>()
    for (const { table, refusal } of found) {
      if (refusal === null) continue
      const name = formatTableName(table)
      refused.add(name)
      await engine.mirror(name)?.pause(refusal.code, refusal.reason)
    }
    const live = names().flatMap((name) => (refused.has(name) ? [] : [this.#listed.get(name)!]))
    const tables = new Map([...live, ...more].map(({ table }) => [formatTableName(table), table]))
    const { locked, slotLsn } = await source.prepare([...tables.values()], publishLockTimeoutMs)
    const lockedNames = new Set(locked.map(formatTableName))
    for (const name of names()) if (lockedNames.has(name)) await this.#awaitUnlocked(name)
    return { slotLsn, locked: lockedNames }
  }
}

function describe({ fields, identifierFieldIds }: TableSchema): string {
  return `${fields.map(({ id, name, type }) => `${id} ${name} ${formatType(type)}`).join()} ${identifierFieldIds.join()}`
}
