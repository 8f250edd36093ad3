import {
  assert,
  formatLsn,
  isMoonlinkError,
  maxLsn,
  MoonlinkError,
  type ChangeLog,
  type LogEntry,
  type LogStatus,
  type Lsn,
} from '@moonlink/core'
import { resolveOptions, type ChangeLogOptions, type ResolvedOptions } from './options.ts'
import { describeRun, makeSafe, RECOVER_ATTEMPTS, recoverLog, type LogRun, type RecoveredLog } from './recover.ts'
import { replay } from './replay.ts'
import { sequenceBefore, type NextSegment } from './segment-format.ts'
import { SegmentRemover } from './segment-remover.ts'
import { SegmentRun } from './segment-run.ts'
import { SegmentWriter } from './segment-writer.ts'
import { WriteQueue, type Batch } from './write-queue.ts'

/** Appended bytes go out in writes of this size, or when they are synced. */
const WRITE_BYTES = 1024 * 1024
/** A segment without a cut ends at this multiple of the usual size. */
const UNCUT_SEGMENTS = 4
const RETRY_FIRST_MS = 1000
const RETRY_MAX_MS = 30_000

type Mode =
  /** No session yet. */
  | 'idle'
  | 'logging'
  /** What is appended is dropped. */
  | 'stopped'

/** A change log of segments on a `LogDisk`. Everything it does on the disk happens one after another. */
export class SegmentedLog implements ChangeLog {
  /** What was found damaged or missing when it was opened. */
  readonly damages: readonly MoonlinkError[]
  private readonly options: ResolvedOptions
  private readonly run: SegmentRun
  private readonly remover: SegmentRemover
  private lastSequence: number
  private prunedThrough: Lsn = 0n

  private mode: Mode = 'idle'
  private trouble: string | null = null
  private fenced: MoonlinkError | null = null
  private state: () => Uint8Array = () => new Uint8Array()
  private retryAtMs = 0
  private retryDelayMs = RETRY_FIRST_MS

  private writer: SegmentWriter | null = null
  private next: NextSegment | null = null
  private readonly queue: WriteQueue
  /** End of the last transaction appended, and of the last one written but not synced. */
  private appendedLsn: Lsn = 0n
  private writtenLsn: Lsn | null = null
  /** Bytes since the segment being appended to began, and since the last cut that a reader can begin at. */
  private segmentBytes = 0
  private isSyncDue = false
  private syncTimer: AbortController | null = null
  private pumping: Promise<void> | null = null
  /** Settles with the last session's beginning: whoever was late with the one before must not undo it. */
  private beginning: Promise<void> = Promise.resolve()
  private readonly listeners: (() => void)[] = []

  private constructor(options: ResolvedOptions, found: RecoveredLog, run: LogRun | null) {
    this.options = options
    this.damages = found.damages
    this.lastSequence = Math.max(found.lastSequence, sequenceBefore(options.lease?.epoch ?? 0))
    this.remover = new SegmentRemover(options)
    this.run = new SegmentRun(run, this.remover)
    const kept = new Set(this.run.list().map(({ name }) => name))
    this.remover.add(found.files.filter(({ name }) => !kept.has(name)))
    this.queue = new WriteQueue(WRITE_BYTES, options.maxPendingBytes)
  }

  /**
   * Reads and checks the whole log. What is damaged or missing is in `damages` and logged; the log then has what can still be used: the oldest run from
   * which the source can go on. Throws `invalid`/`LOG_VERSION` where a later Moonlink wrote it, and `retry`/`LOG_DISK_FAILED` where the disk gives less of it each time.
   */
  static async open(given: ChangeLogOptions): Promise<SegmentedLog> {
    const options = resolveOptions(given)
    for (let attempt = 1; ; attempt++) {
      const found = await recoverLog(options.disk, options.log)
      // Before anything is decided by what was found: a successor would have written already what we do not know of.
      await options.lease?.check()
      const run = usableRun(options, found)
      // Whoever wrote its end may have died before that was synced, or have failed to, and what we have counts as safe from here on. Each segment before was synced before the next was made.
      const last = run?.segments.at(-1)
      if (last === undefined || (await makeSafe(options.disk, last))) return new SegmentedLog(options, found, run)
      // As another process would that begins now.
      const file = options.disk.locate(last.name)
      const message = `${file} has less than was read from it just before, as where a write of it had failed.`
      if (attempt === RECOVER_ATTEMPTS)
        throw new MoonlinkError('retry', 'LOG_DISK_FAILED', `${message} Check its disk, and start again.`, { context: { file } })
      options.logger.warn('the change log is read again', { reason: message })
    }
  }

  get status(): LogStatus {
    const { disk, maxBytes } = this.options
    const roomBytes = disk.roomBytes ?? Infinity
    return {
      range: this.run.range,
      byteSize: this.byteSize,
      maxBytes: Math.min(maxBytes, this.run.fileBytes + roomBytes),
      trouble: this.trouble,
    }
  }

  get durableLsn(): Lsn | null {
    const { range } = this.run
    return range !== null && range.startLsn <= this.prunedThrough ? range.endLsn : null
  }

  get isBehind(): boolean {
    return this.queue.isBehind
  }

  drained(): Promise<void> {
    return this.queue.drained()
  }

  async sync(): Promise<void> {
    while (this.queue.bytes > 0 || this.pumping !== null || (this.writer?.unsyncedBytes ?? 0) > 0) {
      this.isSyncDue = true
      await this.pump()
    }
  }

  replay(after: Lsn): AsyncGenerator<LogEntry, void, undefined> {
    return replay(this.options.disk, this.run.list(), this.run.end, after)
  }

  begin(at: Lsn, state: () => Uint8Array): Promise<void> {
    const begun = this.beginning.then(() => this.beginSession(at, state))
    this.beginning = begun.catch(() => undefined)
    return begun
  }

  append(frames: Uint8Array, endLsn: Lsn | null, isCut: boolean): void {
    this.throwIfFenced()
    if (this.mode !== 'logging') {
      if (endLsn !== null && isCut) this.beginAnew(endLsn)
      return
    }
    if (this.byteSize + frames.length > this.options.maxBytes) return this.stopFull()
    this.queue.append(frames, endLsn)
    this.segmentBytes += frames.length
    if (endLsn !== null) this.appendedLsn = endLsn
    const { segmentBytes } = this.options
    const next = (cut: boolean): NextSegment => ({
      startLsn: this.appendedLsn,
      isCut: cut,
      isSession: false,
      state: cut ? this.state() : new Uint8Array(),
    })
    if (endLsn !== null && isCut && this.segmentBytes >= segmentBytes) this.enqueue(next(true))
    else if (this.segmentBytes >= segmentBytes * UNCUT_SEGMENTS) this.enqueue(next(false))
    else if (this.queue.openBytes >= WRITE_BYTES) this.enqueue(null)
    this.scheduleSync()
  }

  onDurable(listener: () => void): void {
    this.listeners.push(listener)
  }

  isPrunable(through: Lsn): boolean {
    const { range } = this.run
    if (range === null || through <= this.prunedThrough) return false
    const reachesBack = range.startLsn > this.prunedThrough && through >= range.startLsn
    const isAllSafe = this.mode === 'stopped' && through >= range.endLsn
    return reachesBack || isAllSafe || this.run.isPrunable(through)
  }

  prune(through: Lsn): void {
    this.prunedThrough = maxLsn(this.prunedThrough, through)
    this.run.prune(through)
    this.tellDurable()
  }

  async close(): Promise<void> {
    await this.sync()
    await this.closeWriter()
    this.mode = 'idle'
    await this.remover.settled()
  }

  private async beginSession(at: Lsn, state: () => Uint8Array): Promise<void> {
    await this.sync()
    await this.closeWriter()
    this.throwIfFenced()
    this.state = state
    const isContiguous = this.run.end !== null && at === this.run.endLsn
    if (!isContiguous && this.isNeeded) {
      const what = `changes from ${formatLsn(this.run.endLsn)} to ${formatLsn(at)} did not reach the log; the source keeps what comes until Iceberg has them`
      this.stop(what)
      return
    }
    this.next = { startLsn: at, isCut: true, isSession: true, state: state() }
    if (!isContiguous) this.startAt(at)
    this.appendedLsn = at
    this.segmentBytes = 0
    try {
      // At once, and not with the first record: so another writer learns that the log is ours.
      await this.openWriter()
      await this.syncWriter()
    } catch (error) {
      this.fail(error)
      this.throwIfFenced()
      return
    }
    this.mode = 'logging'
    this.trouble = null
  }

  private get byteSize(): number {
    return this.queue.bytes + this.run.fileBytes
  }

  /** Whether the source was told that it may forget what is only here. */
  private get isNeeded(): boolean {
    return this.durableLsn !== null && this.prunedThrough < this.run.endLsn
  }

  /** After a stop: begins again behind `at`, once nothing that the log has is needed. */
  private beginAnew(at: Lsn): void {
    if (this.mode !== 'stopped' || this.pumping !== null || this.isNeeded || this.options.clock.nowMs() < this.retryAtMs) return
    this.next = { startLsn: at, isCut: true, isSession: true, state: this.state() }
    this.appendedLsn = at
    this.segmentBytes = 0
    this.startAt(at)
    // At once: the disk may have no room beside what it had.
    this.remover.start()
    this.mode = 'logging'
    // Where the disk failed it may stop again at once: its trouble stays what it was until something is safe.
    if (this.retryDelayMs === RETRY_FIRST_MS) this.goesOn()
  }

  /** Forgets what the log has: it goes from `lsn` on. */
  private startAt(lsn: Lsn): void {
    this.run.startAt(lsn)
    this.writtenLsn = null
  }

  private enqueue(next: NextSegment | null): void {
    this.queue.endBatch(next)
    if (next !== null) this.segmentBytes = 0
    void this.pump()
  }

  private scheduleSync(): void {
    if (this.syncTimer !== null) return
    const timer = new AbortController()
    this.syncTimer = timer
    void this.options.clock.sleep(this.options.syncIntervalMs, timer.signal).then(
      () => {
        this.syncTimer = null
        this.isSyncDue = true
        void this.pump()
      },
      () => {},
    )
  }

  /** Does all that is due, one thing after another. */
  private pump(): Promise<void> {
    // In a later step: `work` itself may call this.
    this.pumping ??= Promise.resolve()
      .then(() => this.work())
      .finally(() => {
        this.pumping = null
      })
    return this.pumping
  }

  private async work(): Promise<void> {
    try {
      for (;;) {
        const batch = this.queue.shift()
        if (batch !== undefined) await this.write(batch)
        else if (this.isSyncDue && this.queue.openBytes > 0) this.enqueue(null)
        else if (this.writer !== null && (this.isSyncDue || this.writer.unsyncedBytes >= this.options.syncBytes)) await this.syncWriter()
        else break
      }
      if (this.mode === 'stopped') await this.closeWriter()
      this.isSyncDue = false
    } catch (error) {
      this.fail(error)
    }
  }

  private async write(batch: Batch): Promise<void> {
    const { buffer, endLsn, next } = batch
    if (buffer.length > 0) {
      await this.openWriter()
      await this.writer!.write(buffer)
      if (endLsn !== null) this.writtenLsn = endLsn
    }
    this.queue.written(batch)
    if (next === null) return
    await this.syncWriter()
    await this.closeWriter()
    this.next = next
  }

  private async syncWriter(): Promise<void> {
    const { writer } = this
    if (writer === null) return
    if (writer.unsyncedBytes > 0) {
      const end = await writer.sync()
      await this.options.lease?.check()
      if (end !== null) this.run.end = end
      if (this.writtenLsn !== null) this.run.endLsn = this.writtenLsn
      this.writtenLsn = null
      this.retryDelayMs = RETRY_FIRST_MS
      this.goesOn()
      this.tellDurable()
    }
    this.isSyncDue = false
    if (this.options.disk.canAppend) return
    await this.closeWriter()
    this.next = { startLsn: this.run.endLsn, isCut: false, isSession: false, state: new Uint8Array() }
  }

  private async openWriter(): Promise<void> {
    if (this.writer !== null) return
    assert(this.next !== null, 'a segment of the change log has a start')
    const before = this.run.nextPlace(this.next.isSession)
    if (this.next.isSession && before !== null) this.run.cutBehind(before)
    const header = { ...this.next, log: this.options.log, sequence: ++this.lastSequence, continues: before }
    this.writer = await SegmentWriter.create(this.options.disk, header)
    this.run.push(this.writer.segment)
    this.next = null
    this.remover.start()
  }

  private async closeWriter(): Promise<void> {
    const { writer } = this
    this.writer = null
    await writer?.close()
  }

  private stopFull(): void {
    const { maxBytes } = this.options
    this.stop(`it has reached its bound of ${maxBytes} bytes (changeLog.maxBytes); the source keeps what comes until Iceberg has caught up`)
    this.isSyncDue = true
    if (this.queue.openBytes > 0) this.enqueue(null)
    else void this.pump()
  }

  private stop(why: string): void {
    if (this.trouble === null) this.options.logger.warn('the change log has stopped', { reason: why })
    this.mode = 'stopped'
    this.trouble = why
    this.syncTimer?.abort()
    this.syncTimer = null
  }

  private goesOn(): void {
    if (this.mode !== 'logging' || this.trouble === null) return
    this.trouble = null
    this.options.logger.info('the change log begins anew', { after: formatLsn(this.run.range?.startLsn ?? this.appendedLsn) })
  }

  /** The disk failed: what was not safe yet is dropped, and nothing is written to that file again. */
  private fail(error: unknown): void {
    void this.writer?.abandon()
    this.writer = null
    this.queue.clear()
    this.writtenLsn = null
    this.isSyncDue = false
    this.retryAtMs = this.options.clock.nowMs() + this.retryDelayMs
    this.retryDelayMs = Math.min(this.retryDelayMs * 2, RETRY_MAX_MS)
    if (isMoonlinkError(error, 'fenced')) this.fenced = error
    if (isMoonlinkError(error) && error.code === 'LOG_SEGMENT_EXISTS') {
      const message = `another process writes the change log ${this.options.log}: ${error.message} This one stops.`
      this.fenced = new MoonlinkError('fenced', 'LOG_FENCED', message, { cause: error })
    }
    const text = error instanceof Error ? error.message : String(error)
    this.stop(`${text} The source keeps what comes until Iceberg has caught up.`)
  }

  private tellDurable(): void {
    for (const listener of this.listeners) listener()
  }

  private throwIfFenced(): void {
    if (this.fenced !== null) throw this.fenced
  }
}

/** The oldest run from which the source can go on. Logs what is left out, or damaged. */
function usableRun({ logger, sourceFromLsn }: ResolvedOptions, found: RecoveredLog): LogRun | null {
  for (const { code, message } of found.damages) logger.error('the change log is damaged', { code, error: message })
  for (const note of found.notes) logger.info('the change log ends in something unfinished', { note })
  const run = found.runs.find(({ endLsn }) => endLsn >= sourceFromLsn) ?? null
  for (const unused of found.runs.filter((other) => other !== run)) {
    const note = `what it has from ${describeRun(unused)} can't be used: the source goes on at ${formatLsn(sourceFromLsn)}`
    logger.warn('a part of the change log is left out', { note })
  }
  return run
}
