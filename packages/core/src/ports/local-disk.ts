import { readSync } from 'node:fs'
import { dirname } from 'node:path'
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs, type FileHandle } from 'node:fs/promises'

/**
 * How a file is opened: `read`, which has to be there; `create`, empty, whatever was there; `createNew`, which may not be there; `update`, for reading and
 * writing, which has to be there.
 */
export type OpenMode = 'read' | 'create' | 'createNew' | 'update'

/** An open file. It stays usable after its name was removed, until it is closed. */
export interface DiskFile {
  /** Fills `into` from `position` on; returns how many bytes there were. */
  read(into: Uint8Array, position: number): Promise<number>
  /** The same at once: for a few KiB. */
  readSync(into: Uint8Array, position: number): number
  /** Writes all of the bytes, which must not change before it resolves. */
  write(bytes: Uint8Array, position: number): Promise<void>
  /** Cuts it off, or fills it up with zeros, to `length` bytes. */
  truncate(length: number): Promise<void>
  /** Bytes that it has. */
  size(): Promise<number>
  /** What it holds survives a crash of the machine when it resolves; its name does after `LocalDisk.syncDirectory`. */
  sync(): Promise<void>
  /** Lets go once what is under way has ended. Fine to call again. */
  close(): Promise<void>
}

/** Room of a file system, in bytes. */
export interface DiskSpace {
  readonly size: number
  /** Of that, what may still be written. */
  readonly free: number
}

/**
 * A local disk, as a port, so that a node can be simulated with one that fails and forgets. What is written survives the end of the process, and what is
 * synced the end of the machine. Errors are Node's, with their `code`.
 */
export interface LocalDisk {
  /** Opens a file, which the caller closes. */
  open(path: string, mode: OpenMode): Promise<DiskFile>
  /** All that a file holds. */
  readFile(path: string): Promise<Buffer>
  /** Size in bytes, and when it was written last, in ms since 1970. */
  stat(path: string): Promise<{ readonly size: number; readonly modifiedMs: number }>
  /** Room of the file system that has that path, which is there; null where it does not say. */
  space(path: string): Promise<DiskSpace | null>
  /** Names in a directory, in any order. */
  list(directory: string): Promise<readonly string[]>
  /** With the directories above it; fine if it is there. */
  makeDirectory(path: string): Promise<void>
  /** In one step, in the place of what is at `to`. */
  rename(from: string, to: string): Promise<void>
  /** A file, or a directory with all that is in it; fine if it is not there. */
  remove(path: string): Promise<void>
  /** Names made, moved and removed in a directory survive a crash of the machine when it resolves. */
  syncDirectory(path: string): Promise<void>
}

const flags = { read: 'r', create: 'w+', createNew: 'wx+', update: 'r+' } as const

/** The disk of this machine. */
export const systemDisk: LocalDisk = {
  open: async (path, mode) => new SystemFile(await open(path, flags[mode])),
  readFile: (path) => readFile(path),
  stat: async (path) => {
    const { mtimeMs, size } = await stat(path)
    return { size, modifiedMs: mtimeMs }
  },
  space: async (path) => {
    const { bavail, blocks, bsize } = await statfs(path)
    return blocks === 0 ? null : { size: blocks * bsize, free: bavail * bsize }
  },
  list: (directory) => readdir(directory),
  makeDirectory,
  rename: (from, to) => rename(from, to),
  remove: (path) => rm(path, { recursive: true, force: true }),
  syncDirectory: async (path) => {
    const directory = await open(path, 'r')
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  },
}

/** Not mkdir's own `recursive`: in Node 24 it never returns where the parent is there but takes no entries (/proc). */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(path) === path) throw error
    await makeDirectory(dirname(path))
    await mkdir(path).catch((again: NodeJS.ErrnoException) => {
      if (again.code !== 'EEXIST') throw again
    })
  }
}

class SystemFile implements DiskFile {
  private readonly handle: FileHandle

  constructor(handle: FileHandle) {
    this.handle = handle
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    for (let done = 0; ;) {
      if (done === into.length) return done
      const { bytesRead } = await this.handle.read(into, done, into.length - done, position + done)
      if (bytesRead === 0) return done
      done += bytesRead
    }
  }

  readSync(into: Uint8Array, position: number): number {
    return readSync(this.handle.fd, into, 0, into.length, position)
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      done += (await this.handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten
    }
  }

  truncate(length: number): Promise<void> {
    return this.handle.truncate(length)
  }

  async size(): Promise<number> {
    return (await this.handle.stat()).size
  }

  sync(): Promise<void> {
    return this.handle.datasync()
  }

  close(): Promise<void> {
    return this.handle.close()
  }
}
