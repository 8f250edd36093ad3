import { constants } from 'node:fs'
import { mkdir, open, readdir, readFile, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { MoonlinkError } from '@moonlink/core'
import type { LogDisk, LogFile } from './log-disk.ts'

/** Segments as files of one directory of a local file system. */
export class LocalLogDisk implements LogDisk {
  readonly canAppend = true
  private readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  async list(): Promise<{ name: string; byteSize: number }[]> {
    try {
      const names = await readdir(this.directory)
      return await Promise.all(names.map(async (name) => ({ name, byteSize: (await stat(this.locate(name))).size })))
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return []
      throw explain(error, this.directory)
    }
  }

  async read(name: string): Promise<Buffer> {
    try {
      return await readFile(this.locate(name))
    } catch (error) {
      throw explain(error, this.locate(name))
    }
  }

  async create(name: string): Promise<LogFile> {
    const path = this.locate(name)
    try {
      await mkdir(this.directory, { recursive: true })
      return new LocalLogFile(await open(path, 'wx'), path, this.directory)
    } catch (error) {
      throw explain(error, path)
    }
  }

  async remove(name: string): Promise<void> {
    await rm(this.locate(name), { force: true })
  }

  locate(name: string): string {
    return join(this.directory, name)
  }
}

class LocalLogFile implements LogFile {
  private readonly handle: FileHandle
  private readonly path: string
  private readonly directory: string
  private isNameSafe = false

  constructor(handle: FileHandle, path: string, directory: string) {
    this.handle = handle
    this.path = path
    this.directory = directory
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < bytes.length;) at += (await this.handle.write(bytes, at)).bytesWritten
    } catch (error) {
      throw explain(error, this.path)
    }
  }

  async sync(): Promise<void> {
    try {
      await this.handle.datasync()
      if (!this.isNameSafe) await syncDirectory(this.directory)
      this.isNameSafe = true
    } catch (error) {
      throw explain(error, this.path)
    }
  }

  async close(): Promise<void> {
    await this.handle.close()
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}

function explain(error: unknown, path: string): MoonlinkError {
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
