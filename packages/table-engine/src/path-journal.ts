import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import type { LocalDisk, Logger, OpenMode } from '@moonlink/core'
import { isDiskFull, stateDiskError } from './state-disk-error.ts'

/** The journal is written anew once it has so many lines more than twice as many as there are paths. */
const SLACK_LINES = 256

/**
 * A set of paths, kept in a local file to which each change is a line, so that a change costs the same however many there are. A line that a crash cut off,
 * or that is not as it was written, counts for nothing. After a change that can't be written, the next one writes everything again, in another file, or behind what the file has where the
 * disk has no room for two. A file that can't be read is not written either, until it can be: what it has is kept for the next process.
 */
export class PathJournal {
  private readonly disk: LocalDisk
  private readonly path: string
  private readonly logger: Logger
  private readonly members = new Set<string>()
  /** Paths whose last change the file has not, as far as is known. */
  private changed = new Set<string>()
  /** The write that takes what has changed; null where none is to come. */
  private queued: Promise<void> | null = null
  /** What the file has. */
  private lines = 0
  private size = 0
  private mustRewrite = false
  /** A sync of it failed: what it has is not known, whatever is written to it. */
  private isDoubtful = false
  /** The file's name outlasts a power cut: a process that ended may have made it, and not have come to that. */
  private isNameSafe = false
  private isRead = false
  /** Removed before the file was read. */
  private readonly removedUnread = new Set<string>()
  private saving: Promise<void> = Promise.resolve()

  constructor(disk: LocalDisk, path: string, logger: Logger) {
    this.disk = disk
    this.path = path
    this.logger = logger
  }

  get paths(): ReadonlySet<string> {
    return this.members
  }

  /** Reads what an earlier process left. */
  async load(): Promise<void> {
    try {
      await this.read()
    } catch (error) {
      this.logger.warn('the list of files not committed yet could not be read; tried again with the next change', {
        path: this.path,
        error: String(error),
      })
    }
  }

  private async read(): Promise<void> {
    const bytes = await this.disk.readFile(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return Buffer.alloc(0)
      throw error
    })
    const listed = new Set<string>()
    // What follows the last line's end was cut off.
    this.size = bytes.lastIndexOf('\n') + 1
    if (this.size < bytes.length) this.mustRewrite = true
    const lines = bytes.toString('utf8', 0, this.size).split('\n').slice(0, -1)
    this.lines = lines.length
    for (const line of lines) {
      if (line === '') continue
      const path = pathOf(line)
      if (path === null) this.mustRewrite = true
      else if (line.startsWith('+')) listed.add(path)
      else listed.delete(path)
    }
    // What changed meanwhile counts.
    if (this.members.size + this.removedUnread.size > 0) this.mustRewrite = true
    for (const path of listed) (this.removedUnread.has(path) ? this.changed : this.members).add(path)
    this.removedUnread.clear()
    this.isRead = true
  }

  /** Resolves once it is written down, also for a crash of the machine. Throws `retry` (`STATE_FULL`, `STATE_FAILED`), without the path among them, where it can't be. */
  async add(path: string): Promise<void> {
    if (this.members.has(path)) return
    this.members.add(path)
    this.removedUnread.delete(path)
    try {
      await this.save([path])
    } catch (error) {
      this.members.delete(path)
      throw error
    }
  }

  /** Resolves once it is written down, or that failed: a path too many is harmless, and the next change writes it again. */
  async remove(paths: Iterable<string>): Promise<void> {
    const gone = [...paths]
    if (!this.isRead) for (const path of gone) this.removedUnread.add(path)
    const had = gone.filter((path) => this.members.delete(path))
    if (had.length === 0) return
    await this.save(had).catch((error: unknown) => {
      this.logger.warn('the list of files not committed yet could not be written', { path: this.path, error: String(error) })
    })
  }

  /** One after another; what comes meanwhile is written together. */
  private save(changed: readonly string[]): Promise<void> {
    for (const path of changed) this.changed.add(path)
    if (this.queued === null) {
      this.queued = this.saving.then(() => this.write())
      this.saving = this.queued.catch(() => undefined)
    }
    return this.queued
  }

  private async write(): Promise<void> {
    this.queued = null
    let changed: ReadonlySet<string> = new Set()
    try {
      if (!this.isRead) await this.read()
      changed = this.changed
      this.changed = new Set()
      if (this.members.size === 0) await this.clear()
      else if (this.mustRewrite || this.lines + changed.size > 2 * this.members.size + SLACK_LINES) await this.rewriteOrAppend(changed)
      else await this.append(changed)
      this.mustRewrite = false
    } catch (error) {
      // It may be there all the same.
      for (const path of changed) this.changed.add(path)
      this.mustRewrite = true
      throw stateDiskError(error, this.isRead ? 'written' : 'read', this.path)
    }
  }

  private async clear(): Promise<void> {
    await this.disk.remove(this.path)
    this.lines = this.size = 0
    this.isNameSafe = this.isDoubtful = false
  }

  private async rewriteOrAppend(changed: ReadonlySet<string>): Promise<void> {
    try {
      await this.rewrite()
    } catch (error) {
      if (!isDiskFull(error) || this.isDoubtful) throw error
      await this.append(changed)
    }
  }

  private async append(changed: ReadonlySet<string>): Promise<void> {
    const lines = [...changed].map((path) => lineOf(this.members.has(path) ? '+' : '-', path))
    const isNew = this.size === 0
    if (isNew) await this.disk.makeDirectory(dirname(this.path))
    // What an earlier process wrote last and could not sync may be spoiled by a power cut yet: it must not take the line behind it along.
    const bytes = Buffer.from(this.isNameSafe || isNew ? lines.join('') : `\n${lines.join('')}`)
    await this.put(this.path, isNew ? 'create' : 'update', bytes, this.size)
    if (!this.isNameSafe) await this.disk.syncDirectory(dirname(this.path))
    this.isNameSafe = true
    this.lines += lines.length
    this.size += bytes.length
  }

  private async rewrite(): Promise<void> {
    const all = [...this.members].map((path) => lineOf('+', path))
    const bytes = Buffer.from(all.join(''))
    const fresh = `${this.path}.tmp`
    await this.disk.makeDirectory(dirname(this.path))
    try {
      await this.put(fresh, 'create', bytes, 0)
      await this.disk.rename(fresh, this.path)
    } catch (error) {
      // What it has of the disk's room may be what is lacking.
      await this.disk.remove(fresh).catch(() => undefined)
      throw error
    }
    this.lines = all.length
    this.size = bytes.length
    this.isNameSafe = this.isDoubtful = false
    await this.disk.syncDirectory(dirname(this.path))
    this.isNameSafe = true
  }

  private async put(path: string, mode: OpenMode, bytes: Uint8Array, position: number): Promise<void> {
    const file = await this.disk.open(path, mode)
    try {
      // What a write that failed, or was cut off, left there.
      if (this.mustRewrite && position > 0) await file.truncate(position)
      await file.write(bytes, position)
      await file.sync().catch((error: unknown) => {
        if (path === this.path) this.isDoubtful = true
        throw error
      })
    } finally {
      await file.close()
    }
  }
}

/** With a checksum: a name that a disk has changed may be that of a file that is needed. */
function lineOf(sign: '+' | '-', path: string): string {
  const change = sign + JSON.stringify(path)
  return `${change} ${checksumOf(change)}\n`
}

function checksumOf(change: string): string {
  return crc32(change).toString(16).padStart(8, '0')
}

/** The path that a line adds or takes away; null where it is none, or not what was written. Earlier versions wrote no checksums. */
function pathOf(line: string): string | null {
  const match = /^([+-]".*")(?: ([\da-f]{8}))?$/.exec(line)
  if (match === null) return null
  const [, change, checksum] = match
  if (checksum !== undefined && checksum !== checksumOf(change)) return null
  try {
    const path: unknown = JSON.parse(change.slice(1))
    return typeof path === 'string' ? path : null
  } catch {
    return null
  }
}
