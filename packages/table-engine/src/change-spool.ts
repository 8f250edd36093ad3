import { deserialize, serialize } from 'node:v8'
import { crc32 } from 'node:zlib'
import {
  MoonlinkError,
  type ChangeBatch,
  type Column,
  type ColumnBatch,
  type DiskFile,
  type Field,
  type LocalDisk,
  type Logger,
} from '@moonlink/core'
import { batchBytes, copyBatch, isBatch, splitOpen, type HeldChange } from './held-batches.ts'
import { stateDiskError } from './state-disk-error.ts'

/** Before each entry: its length and its checksum. */
const HEADER_BYTES = 8

interface SpooledRows extends Omit<ColumnBatch, 'fields'> {
  /** Which of the fields that this spool has seen. */
  readonly fields: number
}

type SpooledBatch = Omit<ChangeBatch, 'rows' | 'old'> & { readonly rows: SpooledRows; readonly old: SpooledRows }

export interface ChangeSpoolOptions {
  readonly disk: LocalDisk
  /** Of a file of its own; whatever is there is of no use to anybody any more. */
  readonly path: string
  /** Changes beyond this many bytes go to the file. */
  readonly memoryBytes: number
  readonly logger: Logger
}

/** About so much is encoded and written at a time. */
const WRITE_BYTES = 256 * 1024
/** Of a file: it is warned of at this size, and at each doubling. */
const WARN_BYTES = 1024 ** 3

/**
 * Changes that wait, in order: in memory while they are few, else in a local file, which means nothing to another process. Where the file can't be
 * written they stay in memory, which is `trouble`: whoever gives changes has to stop then, and to `retry` until it is over.
 */
export class ChangeSpool {
  private readonly options: ChangeSpoolOptions
  private file: DiskFile | null = null
  /** In the file: what was taken ends at `readAt`, what is there at `writtenTo`, and the last whole transaction at `closedTo`. */
  private readAt = 0
  private writtenTo = 0
  private closedTo = 0
  /** What comes behind the file, and how much of it is of whole transactions. */
  private recent: HeldChange[] = []
  private closedRecent = 0
  private recentBytes = 0
  private warnAtBytes = WARN_BYTES
  /** Why the file could not be written, so that what comes stays in memory; null where it could. */
  private failure: string | null = null
  private readonly fieldSets: (readonly Field[])[] = []

  constructor(options: ChangeSpoolOptions) {
    this.options = options
  }

  get isEmpty(): boolean {
    return this.recent.length === 0 && this.readAt === this.writtenTo
  }

  /** Bytes in memory. */
  get byteSize(): number {
    return this.recentBytes
  }

  /** Bytes in the file. */
  get fileBytes(): number {
    return this.writtenTo - this.readAt
  }

  /** Why changes that belong on disk are in memory, and what to do about it; null where they are not. */
  get trouble(): string | null {
    if (this.failure === null) return null
    return `COPY_SPOOL_FAILED changes that wait for the copy can't be written to ${this.options.path} (${this.failure}): free space there. It is tried again; the source waits as memory nears its limit.`
  }

  /** Takes a copy of the change. */
  async append(change: HeldChange): Promise<void> {
    if (isBatch(change)) {
      const { closed, open } = splitOpen(change)
      if (closed !== null) {
        this.push(closed)
        this.closedRecent = this.recent.length
        this.closedTo = this.writtenTo
      }
      if (open !== null) this.push(open)
    } else this.recent.push(change)
    if (this.failure === null && this.recentBytes >= this.options.memoryBytes) await this.spill()
  }

  /** Where there is trouble, tries again. */
  async retry(): Promise<void> {
    if (this.failure !== null) await this.spill()
  }

  /** Takes the first change out; null where there is none. Throws `corrupt`/`SPOOL_CORRUPT` where the file is not what was written to it, and `retry`/`STATE_FAILED`, with nothing taken, where it can't be read. */
  async shift(): Promise<HeldChange | null> {
    if (this.readAt < this.writtenTo) {
      const { change, next } = await this.readEntry(this.readAt)
      this.readAt = next
      this.closedTo = Math.max(this.closedTo, next)
      if (this.readAt === this.writtenTo) await this.emptyFile()
      return change
    }
    const change = this.recent.shift() ?? null
    if (change === null) return null
    this.closedRecent = Math.max(0, this.closedRecent - 1)
    if (isBatch(change)) this.recentBytes -= batchBytes(change)
    return change
  }

  /** Reads every whole transaction there is now, and leaves it where it is. Nothing may be taken meanwhile. */
  async *read(): AsyncGenerator<HeldChange> {
    const end = this.closedRecent > 0 ? this.writtenTo : this.closedTo
    const inMemory = this.recent.slice(0, this.closedRecent)
    for (let at = this.readAt; at < end;) {
      const { change, next } = await this.readEntry(at)
      yield change
      at = next
    }
    yield* inMemory
  }

  /** Forgets the transaction whose end has not come: it comes again. */
  rollBack(): void {
    if (this.closedRecent > 0) this.recent.length = this.closedRecent
    else {
      this.recent = []
      this.writtenTo = Math.max(this.readAt, this.closedTo)
    }
    this.recentBytes = this.recent.reduce((sum, change) => sum + (isBatch(change) ? batchBytes(change) : 0), 0)
  }

  /** Forgets everything. */
  async clear(): Promise<void> {
    this.recent = []
    this.closedRecent = 0
    this.recentBytes = 0
    this.failure = null
    this.warnAtBytes = WARN_BYTES
    await this.emptyFile()
  }

  /** Lets go of the file. */
  async close(): Promise<void> {
    await this.clear()
    const { file } = this
    this.file = null
    await file?.close()
    // What stays is no more than room taken: the next one begins an empty file.
    await this.options.disk.remove(this.options.path).catch(() => undefined)
  }

  private push(batch: ChangeBatch): void {
    const copy = copyBatch(batch)
    this.recent.push(copy)
    this.recentBytes += batchBytes(copy)
  }

  private async spill(): Promise<void> {
    const { disk, logger, path } = this.options
    let end = this.writtenTo
    let closedEnd = end
    try {
      this.file ??= await disk.open(path, 'create')
      let piece: Buffer[] = []
      let writtenTo = end
      for (const [index, change] of this.recent.entries()) {
        const entry = this.encoded(change)
        piece.push(entry)
        end += entry.length
        if (index < this.closedRecent) closedEnd = end
        if (end - writtenTo < WRITE_BYTES && index < this.recent.length - 1) continue
        await this.file.write(Buffer.concat(piece), writtenTo)
        piece = []
        writtenTo = end
      }
    } catch (error) {
      const text = error instanceof Error && 'code' in error ? String(error.code) : String(error)
      // It is tried many times.
      if (this.failure === null)
        logger.warn('changes that wait for a copy stay in memory, for they could not be written', { path, error: text })
      this.failure = text
      return
    }
    if (this.failure !== null) logger.info('changes that wait for a copy are written again', { path })
    this.failure = null
    if (this.closedRecent > 0) this.closedTo = closedEnd
    this.writtenTo = end
    this.recent = []
    this.closedRecent = 0
    this.recentBytes = 0
    this.warnOfSize()
  }

  private warnOfSize(): void {
    if (this.fileBytes < this.warnAtBytes) return
    this.options.logger.warn('many changes wait on disk for a copy', { path: this.options.path, bytes: this.fileBytes })
    while (this.warnAtBytes <= this.fileBytes) this.warnAtBytes *= 2
  }

  private async emptyFile(): Promise<void> {
    this.readAt = this.writtenTo = this.closedTo = 0
    // It only gives room back: nothing of it is read again.
    await this.file?.truncate(0).catch(() => undefined)
  }

  private async readEntry(at: number): Promise<{ change: HeldChange; next: number }> {
    const header = await this.bytesAt(at, HEADER_BYTES)
    const start = at + HEADER_BYTES
    const next = start + header.readUInt32LE(0)
    // Zeros, of a block that the disk has lost, pass their checksum.
    if (next === start || next > this.writtenTo) throw this.corrupt(at)
    const payload = await this.bytesAt(start, next - start)
    if (crc32(payload) !== header.readUInt32LE(4)) throw this.corrupt(at)
    return { change: this.decoded(payload), next }
  }

  private async bytesAt(at: number, length: number): Promise<Buffer> {
    const { path } = this.options
    const bytes = Buffer.alloc(length)
    const count = await this.file!.read(bytes, at).catch((error: unknown) => {
      throw stateDiskError(error, 'read', path)
    })
    if (count < length) throw this.corrupt(at)
    return bytes
  }

  private corrupt(at: number): MoonlinkError {
    const { path } = this.options
    const message = `${path}, where changes wait for a copy, is damaged at byte ${at}: check its disk. Then moonlink tables resync makes the table equal to its source.`
    return new MoonlinkError('corrupt', 'SPOOL_CORRUPT', message, { context: { path, at } })
  }

  private encoded(change: HeldChange): Buffer {
    const payload = serialize(
      isBatch(change) ? { ...change, rows: this.encodedRows(change.rows), old: this.encodedRows(change.old) } : change,
    )
    const header = Buffer.alloc(HEADER_BYTES)
    header.writeUInt32LE(payload.length, 0)
    header.writeUInt32LE(crc32(payload), 4)
    return Buffer.concat([header, payload])
  }

  private decoded(payload: Buffer): HeldChange {
    const change = deserialize(payload) as SpooledBatch | Exclude<HeldChange, ChangeBatch>
    if (!('marks' in change)) return change
    return { ...change, rows: this.decodedRows(change.rows), old: this.decodedRows(change.old) }
  }

  private encodedRows({ columns, fields, length }: ColumnBatch): SpooledRows {
    let index = this.fieldSets.indexOf(fields)
    if (index < 0) index = this.fieldSets.findIndex((known) => areSame(known, fields))
    if (index < 0) index = this.fieldSets.push(fields) - 1
    return { fields: index, columns, length }
  }

  private decodedRows({ columns, fields, length }: SpooledRows): ColumnBatch {
    return { fields: this.fieldSets[fields], columns: columns.map(aligned), length }
  }
}

function areSame(a: readonly Field[], b: readonly Field[]): boolean {
  return a.length === b.length && a.every((field, index) => field === b[index])
}

/** In memory of its own: what `deserialize` gives lies anywhere. */
function aligned(column: Column): Column {
  return { ...column, values: column.values.slice(), children: column.children.map(aligned) }
}
