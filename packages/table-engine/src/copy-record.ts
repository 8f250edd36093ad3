import { dirname } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { crc32 } from 'node:zlib'
import type { CopyRange, LocalDisk, Logger, Lsn, StagedFile } from '@moonlink/core'
import { stateDiskError } from './state-disk-error.ts'

/** One snapshot of the source that a table's copy reads in. */
export interface CopySession {
  readonly boundaryLsn: Lsn
  /** As in `CopiedTable`. */
  readonly storage: string | null
  readonly horizon: string
}

/** Rows of one range that follow each other in a file. */
export interface CopyRun {
  readonly range: CopyRange
  readonly count: number
}

/** A file of copied rows that is written, sealed index included. */
export interface CopiedFile {
  readonly staged: StagedFile
  readonly runs: readonly CopyRun[]
}

export interface RecordedSession extends CopySession {
  readonly files: CopiedFile[]
  /** Ranges of which every row is in `files`. */
  readonly done: CopyRange[]
}

type Entry =
  | { readonly kind: 'table'; readonly fingerprint: string }
  | { readonly kind: 'session'; readonly session: CopySession }
  | { readonly kind: 'file'; readonly file: CopiedFile }
  | { readonly kind: 'done'; readonly range: CopyRange }

const HEADER_BYTES = 8

/**
 * What a table's copy has so far, so that one that is cut off goes on where it was: a local file that only grows. Each entry has a checksum, and what
 * stands behind the first that is not whole counts for nothing. A lost record means that the copy begins anew.
 */
export class CopyRecord {
  private readonly disk: LocalDisk
  private readonly path: string
  /** Of what rows are: a record of others is none. */
  private readonly fingerprint: string
  private readonly logger: Logger
  private recorded: RecordedSession[] = []
  private size = 0
  private isTrimmed = false
  private writing: Promise<void> = Promise.resolve()

  constructor(disk: LocalDisk, path: string, fingerprint: string, logger: Logger) {
    this.disk = disk
    this.path = path
    this.fingerprint = fingerprint
    this.logger = logger
  }

  /** Oldest first. */
  get sessions(): readonly RecordedSession[] {
    return this.recorded
  }

  get done(): CopyRange[] {
    return this.recorded.flatMap(({ done }) => done)
  }

  get files(): CopiedFile[] {
    return this.recorded.flatMap(({ files }) => files)
  }

  /** Reads what an earlier process left. */
  async load(): Promise<void> {
    const bytes = await this.disk.readFile(this.path).catch(() => Buffer.alloc(0))
    const { entries, size } = decode(bytes)
    const [first] = entries
    if (first?.kind !== 'table' || first.fingerprint !== this.fingerprint) return
    this.size = size
    for (const entry of entries) this.take(entry)
  }

  async begin(session: CopySession): Promise<void> {
    if (this.size === 0) await this.write({ kind: 'table', fingerprint: this.fingerprint })
    await this.write({ kind: 'session', session })
  }

  async addFile(file: CopiedFile): Promise<void> {
    await this.write({ kind: 'file', file })
  }

  async addDone(range: CopyRange): Promise<void> {
    await this.write({ kind: 'done', range })
  }

  /** The copy is over, or begins anew. Throws `retry` where the disk does not let go of it. */
  async clear(): Promise<void> {
    await this.writing
    // First, and for good: what a record names is removed once it is gone.
    try {
      await this.disk.remove(this.path)
      await this.disk.syncDirectory(dirname(this.path)).catch(unlessAbsent)
    } catch (error) {
      throw stateDiskError(error, 'written', this.path)
    }
    this.recorded = []
    this.size = 0
  }

  private take(entry: Entry): void {
    const session = this.recorded.at(-1)
    if (entry.kind === 'session') this.recorded.push({ ...entry.session, files: [], done: [] })
    else if (entry.kind === 'file') session?.files.push(entry.file)
    else if (entry.kind === 'done') session?.done.push(entry.range)
  }

  /** One after the other. What can't be written is known to this process all the same. */
  private write(entry: Entry): Promise<void> {
    this.take(entry)
    const bytes = encode(entry)
    const at = this.size
    this.size += bytes.length
    this.writing = this.writing.then(async () => {
      try {
        await this.disk.makeDirectory(dirname(this.path))
        const file = await this.disk.open(this.path, at === 0 ? 'create' : 'update')
        try {
          // Behind a damaged entry there may be whole ones.
          if (!this.isTrimmed) await file.truncate(at)
          this.isTrimmed = true
          await file.write(bytes, at)
        } finally {
          await file.close()
        }
      } catch (error) {
        this.logger.warn('what a copy has could not be written down; after a crash more of it is read again', {
          path: this.path,
          error: String(error),
        })
      }
    })
    return this.writing
  }
}

/** A directory that was never made holds no name. */
function unlessAbsent(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
}

function encode(entry: Entry): Buffer {
  const payload = serialize(entry)
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(payload.length, 0)
  header.writeUInt32LE(crc32(payload), 4)
  return Buffer.concat([header, payload])
}

/** The whole entries at the beginning, and where they end. */
function decode(bytes: Buffer): { readonly entries: readonly Entry[]; readonly size: number } {
  const entries: Entry[] = []
  let at = 0
  while (at + HEADER_BYTES <= bytes.length) {
    const length = bytes.readUInt32LE(at)
    const end = at + HEADER_BYTES + length
    const payload = bytes.subarray(at + HEADER_BYTES, end)
    // Zeros, which a file that was cut short has where it was written beyond, pass their checksum.
    if (length === 0 || end > bytes.length || crc32(payload) !== bytes.readUInt32LE(at + 4)) break
    const entry = readEntry(payload)
    if (entry === null) break
    entries.push(entry)
    at = end
  }
  return { entries, size: at }
}

/** Null for what another version of Node, or of Moonlink, wrote in a way of its own. */
function readEntry(payload: Buffer): Entry | null {
  try {
    const entry = deserialize(payload) as Entry | null
    return ['table', 'session', 'file', 'done'].includes(entry?.kind ?? '') ? entry : null
  } catch {
    return null
  }
}
