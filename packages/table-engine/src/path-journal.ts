import { dirname } from 'node:path'
import type { LocalDisk, Logger, OpenMode } from '@moonlink/core'

/** The journal is written anew once it has so many lines more than twice as many as there are paths. */
const SLACK_LINES = 256

/**
 * A set of paths, kept in a local file to which each change is a line, so that a change costs the same however many there are. A line that a crash cut off
 * counts for nothing. Changes that can't be written are warned of; the next one writes everything again. A file that can't be read is not written either, until it can be:
 * what it has is kept for the next process.
 */
export class PathJournal {
  private readonly disk: LocalDisk
  private readonly path: string
  private readonly logger: Logger
  private readonly members = new Set<string>()
  private pending: string[] = []
  /** What the file has. */
  private lines = 0
  private size = 0
  private mustRewrite = false
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
    const lines = bytes.toString().split('\n')
    // What follows the last line's end was cut off.
    if (lines.pop() !== '') this.mustRewrite = true
    this.lines = lines.length
    this.size = bytes.length
    for (const line of lines) {
      const path = pathOf(line)
      if (path === null) this.mustRewrite = true
      else if (line.startsWith('+')) listed.add(path)
      else listed.delete(path)
    }
    // What changed meanwhile counts.
    if (this.members.size + this.removedUnread.size > 0) this.mustRewrite = true
    for (const path of listed) if (!this.removedUnread.has(path)) this.members.add(path)
    this.removedUnread.clear()
    this.isRead = true
  }

  /** Resolves once it is written down, or that failed. */
  async add(path: string): Promise<void> {
    if (this.members.has(path)) return
    this.members.add(path)
    this.removedUnread.delete(path)
    await this.save([`+${JSON.stringify(path)}\n`])
  }

  /** The same. */
  async remove(paths: Iterable<string>): Promise<void> {
    const gone = [...paths]
    if (!this.isRead) for (const path of gone) this.removedUnread.add(path)
    const had = gone.filter((path) => this.members.delete(path))
    if (had.length > 0) await this.save(had.map((path) => `-${JSON.stringify(path)}\n`))
  }

  /** One after another; what comes meanwhile is written together. */
  private save(lines: readonly string[]): Promise<void> {
    this.pending.push(...lines)
    this.saving = this.saving.then(() => this.write())
    return this.saving
  }

  private async write(): Promise<void> {
    const lines = this.pending
    if (lines.length === 0) return
    this.pending = []
    try {
      if (!this.isRead) await this.read()
      if (this.members.size === 0) await this.clear()
      else if (this.mustRewrite || this.lines + lines.length > 2 * this.members.size + SLACK_LINES) await this.rewrite()
      else await this.append(lines)
      this.mustRewrite = false
    } catch (error) {
      this.mustRewrite = true
      this.logger.warn('the list of files not committed yet could not be written', { path: this.path, error: String(error) })
    }
  }

  private async clear(): Promise<void> {
    await this.disk.remove(this.path)
    this.lines = this.size = 0
  }

  private async append(lines: readonly string[]): Promise<void> {
    if (this.size === 0) await this.disk.makeDirectory(dirname(this.path))
    const bytes = Buffer.from(lines.join(''))
    await this.put(this.path, this.size === 0 ? 'create' : 'update', bytes, this.size)
    this.lines += lines.length
    this.size += bytes.length
  }

  private async rewrite(): Promise<void> {
    const all = [...this.members].map((path) => `+${JSON.stringify(path)}\n`)
    const bytes = Buffer.from(all.join(''))
    await this.disk.makeDirectory(dirname(this.path))
    await this.put(`${this.path}.tmp`, 'create', bytes, 0)
    await this.disk.rename(`${this.path}.tmp`, this.path)
    this.lines = all.length
    this.size = bytes.length
  }

  private async put(path: string, mode: OpenMode, bytes: Uint8Array, position: number): Promise<void> {
    const file = await this.disk.open(path, mode)
    try {
      await file.write(bytes, position)
    } finally {
      await file.close()
    }
  }
}

/** The path that a line adds or takes away; null where it is none. */
function pathOf(line: string): string | null {
  if (!line.startsWith('+') && !line.startsWith('-')) return null
  try {
    const path: unknown = JSON.parse(line.slice(1))
    return typeof path === 'string' ? path : null
  } catch {
    return null
  }
}
