import { join } from 'node:path'
import type { ChangeLog, Logger, Lsn, ResumePoint, SourceTable, TableName, TableShape } from '@moonlink/core'
import { openPgSource, parseConnectionString, type PgSource } from '@moonlink/pg-source'
import type { Config } from '../config/schema.ts'
import type { ListedSourceTable, SourceHandle, SourceSnapshot } from './parts.ts'
import { defaultSlotName } from './slot-name.ts'

/** Share of the memory limit for the batches of a copy. Each of its connections holds two for each table it reads. */
const COPY_SHARE = 1 / 4
const COPY_BATCHES = 2
const MIN_COPY_BATCH_BYTES = 1024 * 1024
const MAX_COPY_BATCH_BYTES = 32 * 1024 * 1024
/** More than the wal_sender_timeout that is usual, for where we may not end a stale backend's connection. */
const STALE_WAIT_MS = 90_000
/** A shorter silence than this may be a busy machine's. */
const MIN_SENDER_TIMEOUT_MS = 10_000

/**
 * Connects to the source and checks everything that would keep a mirror from running. Makes nothing there yet. Where it `takesOver` from another backend, whoever still
 * uses the slot is that one.
 */
export async function openSource(config: Config, url: string, logger: Logger, takesOver = false): Promise<SourceHandle> {
  const { failover, onSlotLoss, origin, publication, slot = defaultSlot(url), spoolBytes, streaming, twoPhase } = config.source
  const { excludeColumns, appendOnly, types, columns, onUnfit } = config.source
  const source = await openPgSource(
    {
      connection: url,
      publication,
      slot,
      failover,
      streaming,
      spoolMemoryBytes: spoolBytes,
      // Who holds a lease may be taken over from: the slot then waits for no one that is silent longer than that.
      senderTimeoutMs: config.changeLog.kind === 'store' ? Math.max(config.standby.takeoverMs, MIN_SENDER_TIMEOUT_MS) : 0,
      ...(takesOver ? { evictsStale: true, slotWaitMs: STALE_WAIT_MS } : {}),
      spoolDirectory: join(config.stateDir, 'spool'),
      twoPhase,
      origin,
      replaceLostSlot: onSlotLoss === 'resync',
      excludeColumns,
      appendOnly,
      types,
      columns,
      onUnfit,
      copyWorkers: config.copy.connections,
      copyRangeBytes: config.copy.rangeBytes,
      copyBytesPerSecond: config.copy.maxBytesPerSecond,
      copyLockTimeoutMs: config.copy.lockTimeoutMs,
      copySnapshotMaxMs: config.copy.maxSnapshotMs,
      copyBatchBytes: copyBatchBytes(config),
    },
    { logger },
  )
  return new PostgresHandle(source)
}

function copyBatchBytes({ copy, memory }: Config): number {
  const bytes = Math.floor((memory.limitBytes * COPY_SHARE) / (copy.connections * copy.parallelTables * COPY_BATCHES))
  return Math.min(MAX_COPY_BATCH_BYTES, Math.max(MIN_COPY_BATCH_BYTES, bytes))
}

function defaultSlot(url: string): string {
  const { database, user } = parseConnectionString(url)
  return defaultSlotName(database ?? process.env['PGDATABASE'] ?? user ?? process.env['PGUSER'] ?? 'source')
}

class PostgresHandle implements SourceHandle {
  readonly identity: SourceHandle['identity']
  readonly history: SourceHandle['history']
  readonly notes: readonly string[]
  readonly #source: PgSource

  constructor(source: PgSource) {
    this.#source = source
    this.history = source.history
    this.notes = source.notes
    const { facts, slotName: slot, publicationName: publication } = source
    this.identity = { systemIdentifier: facts.systemId, database: facts.database, serverVersion: facts.version, slot, publication }
  }

  async listTables(only?: readonly TableName[]): Promise<readonly ListedSourceTable[]> {
    const listed = await this.#source.listTables(only)
    return listed.map((table) => {
      if (!table.mirrorable)
        return {
          table: table.table,
          schema: null,
          sourceState: null,
          appendOnly: false,
          refusal: { code: table.code, reason: table.reason },
          notes: [],
        }
      return {
        table: table.table,
        schema: table.schema,
        sourceState: table.sourceState,
        appendOnly: table.appendOnly,
        refusal: null,
        notes: table.notes,
      }
    })
  }

  prepare(tables: readonly TableName[], lockTimeoutMs: number) {
    return this.#source.prepare(tables, lockTimeoutMs, true)
  }

  publish(table: TableName) {
    return this.#source.publish(table)
  }

  get publishesTooMuch() {
    return this.#source.publishesTooMuch
  }

  unpublish() {
    return this.#source.unpublish()
  }

  unfitValues(table: TableName) {
    return this.#source.unfitValues(table)
  }

  fieldSources(table: TableName, shape?: TableShape) {
    return this.#source.fieldSources(table, shape)
  }

  restore(table: TableName, sourceState: string) {
    return this.#source.restore(table, sourceState)
  }

  evolved(table: TableName, known: TableShape) {
    return this.#source.evolved(table, known)
  }

  nameNow(known: TableShape) {
    return this.#source.nameNow(known)
  }

  rowFilter(table: TableName, snapshot: SourceSnapshot) {
    return this.#source.rowFilter(table, snapshot)
  }

  publicationChanges() {
    return this.#source.publicationChanges()
  }

  publicationMark(table: TableName) {
    return this.#source.baselines.mark(table)
  }

  resumeMarks(marks: Readonly<Record<string, string>>) {
    this.#source.baselines.resume(marks)
  }

  isRepublished(table: TableName) {
    return this.#source.baselines.isRepublished(table)
  }

  waitUntilUnused(): Promise<void> {
    return this.#source.waitUntilUnused()
  }

  snapshot() {
    return this.#source.snapshot()
  }

  waits() {
    return this.#source.waits()
  }

  heartbeat() {
    return this.#source.heartbeat()
  }

  async position() {
    return this.#source.position()
  }

  asOfLsn() {
    return this.#source.asOfLsn()
  }

  currentLsn(): Promise<Lsn> {
    return this.#source.currentLsn()
  }

  open(after: Lsn, signal: AbortSignal, log?: ChangeLog, resume?: readonly ResumePoint[]) {
    return this.#source.open(after, signal, log, resume)
  }

  copy(tables: readonly SourceTable[], signal: AbortSignal) {
    return this.#source.copy(tables, signal)
  }

  uninstall() {
    return this.#source.uninstall()
  }

  close(): Promise<void> {
    return this.#source.close()
  }
}
