import { join } from 'node:path'
import { isMoonlinkError, MoonlinkError, systemDisk, type DiskFile, type LocalDisk } from '@moonlink/core'
import type { LogDisk, LogFile } from './log-disk.ts'

/** Of a small disk, `minFreeBytes` is at most this share. */
const MIN_FREE_SHARE = 1 / 4

/** What `sync` writes: one name, so that a process that ends meanwhile leaves one file at most. */
const FRESH_NAME = 'synced.tmp'

/** Segments as files of one directory of a local file system. */
export class LocalLogDisk implements LogDisk {
  readonly canAppend = true
  readonly readsAtOnce = 1
  roomBytes: number | null = null
  private readonly directory: string
  private readonly disk: LocalDisk
  private readonly minFreeBytes: number

  /**
   * `minFreeBytes`: no record is written (`LOG_DISK_FULL`) where less than that would be left free of the disk, or than a quarter of all that it has, whichever is less: what empties
   * the log may need room on the same disk. Default: 0.
   */
  constructor(directory: string, disk: LocalDisk = systemDisk, minFreeBytes = 0) {
    this.directory = directory
    this.disk = disk
    this.minFreeBytes = minFreeBytes
  }

  async list(): Promise<readonly string[]> {
    try {
      return await this.disk.list(this.directory)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return []
      throw explain(error, this.directory)
    }
  }

  async read(name: string): Promise<Buffer> {
    try {
      return await this.disk.readFile(this.locate(name))
    } catch (error) {
      throw explain(error, this.locate(name))
    }
  }

  async create(name: string): Promise<LogFile> {
    const path = this.locate(name)
    try {
      await this.disk.makeDirectory(this.directory)
      await this.lookForRoom()
      return new LocalLogFile(this.disk, await this.disk.open(path, 'createNew'), path, this.directory, (bytes) =>
        this.requireRoom(path, bytes),
      )
    } catch (error) {
      throw explain(error, path)
    }
  }

  /** Writes it again: what a failed fsync was to write counts as written since, is read as if it were, and no later fsync alone brings it to the disk. */
  async sync(name: string): Promise<void> {
    const path = this.locate(name)
    try {
      const bytes = await this.disk.readFile(path)
      await this.replace(path, bytes).catch(async (error: unknown) => {
        if (explain(error, path).code !== 'LOG_DISK_FULL') throw error
        // In its own place, which takes no room. A crash meanwhile changes nothing that was safe: those bytes are the same.
        await this.writeSynced(path, 'update', bytes)
      })
      await this.disk.syncDirectory(this.directory)
    } catch (error) {
      throw explain(error, path)
    }
  }

  async remove(name: string): Promise<void> {
    await this.disk.remove(this.locate(name))
  }

  locate(name: string): string {
    return join(this.directory, name)
  }

  private async replace(path: string, bytes: Uint8Array): Promise<void> {
    const fresh = this.locate(FRESH_NAME)
    try {
      await this.writeSynced(fresh, 'create', bytes)
      await this.disk.rename(fresh, path)
    } catch (error) {
      await this.disk.remove(fresh).catch(() => undefined)
      throw error
    }
  }

  private async writeSynced(path: string, mode: 'create' | 'update', bytes: Uint8Array): Promise<void> {
    const file = await this.disk.open(path, mode)
    try {
      await file.write(bytes, 0)
      await file.sync()
    } finally {
      await file.close()
    }
  }

  private async requireRoom(path: string, bytes: number): Promise<void> {
    const space = await this.lookForRoom()
    if (this.minFreeBytes === 0 || space === null || space.free - bytes >= space.kept) return
    const message = `no room to write ${path}: its disk has ${space.free} bytes left, and ${Math.ceil(space.kept)} are kept for the commits that let the log shrink (changeLog.minFreeBytes).`
    throw new MoonlinkError('invalid', 'LOG_DISK_FULL', message, { context: { path } })
  }

  /** What is free of the disk, and what of that is kept free; null where it does not say. */
  private async lookForRoom(): Promise<{ readonly free: number; readonly kept: number } | null> {
    const space = await this.disk.space(this.directory)
    if (space === null) return null
    const kept = Math.min(this.minFreeBytes, space.size * MIN_FREE_SHARE)
    this.roomBytes = Math.max(0, space.free - kept)
    return { free: space.free, kept }
  }
}

class LocalLogFile implements LogFile {
  private readonly disk: LocalDisk
  private readonly file: DiskFile
  private readonly path: string
  private readonly directory: string
  private readonly requireRoom: (bytes: number) => Promise<void>
  private length = 0
  private isNameSafe = false

  constructor(disk: LocalDisk, file: DiskFile, path: string, directory: string, requireRoom: (bytes: number) => Promise<void>) {
    this.disk = disk
    this.file = file
    this.path = path
    this.directory = directory
    this.requireRoom = requireRoom
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      // The header of a segment goes in any case: those before it are removed only behind it.
      if (this.length > 0) await this.requireRoom(bytes.length)
      await this.file.write(bytes, this.length)
      this.length += bytes.length
    } catch (error) {
      // The file itself is open: it is its directory that is not found.
      if (codeOf(error) === 'ENOENT') throw this.lost(error)
      throw explain(error, this.path)
    }
  }

  async sync(): Promise<void> {
    try {
      await this.file.sync()
      if (!this.isNameSafe) await this.disk.syncDirectory(this.directory)
      this.isNameSafe = true
      await this.requireThere()
    } catch (error) {
      throw explain(error, this.path)
    }
  }

  /** A file that was removed, with its directory or its disk, is written and synced as if nothing were. */
  private async requireThere(): Promise<void> {
    try {
      await this.disk.stat(this.path)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error
      throw this.lost(error)
    }
  }

  private lost(cause: unknown): MoonlinkError {
    const message = `${this.path} is gone, as where its directory was removed, or its disk unmounted; what the change log had is lost.`
    return new MoonlinkError('retry', 'LOG_LOST', message, { context: { path: this.path }, cause })
  }

  async close(): Promise<void> {
    await this.file.close()
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}

function explain(error: unknown, path: string): MoonlinkError {
  if (isMoonlinkError(error)) return error
  const code = codeOf(error)
  const made = (kind: 'invalid' | 'conflict' | 'retry', name: string, message: string) =>
    new MoonlinkError(kind, name, message, { context: { path, errno: code }, cause: error })
  switch (code) {
    case 'EEXIST':
      return made('conflict', 'LOG_SEGMENT_EXISTS', `${path} is there already.`)
    case 'ENOSPC':
    case 'EDQUOT':
      return made('invalid', 'LOG_DISK_FULL', `no room to write ${path} (${code}): free space.`)
    case 'ENOTDIR':
      return made('invalid', 'LOG_NOT_WRITABLE', `can't keep segments in ${path}: a file stands where a directory is needed; move it away.`)
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return made('invalid', 'LOG_NOT_WRITABLE', `may not use ${path} (${code}): give this user read and write permission on it.`)
    default:
      return made('retry', 'LOG_DISK_FAILED', `could not use ${path}: ${error instanceof Error ? error.message : String(error)}.`)
  }
}
