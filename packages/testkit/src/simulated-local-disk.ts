import { dirname } from 'node:path'
import type { DiskFile, DiskSpace, LocalDisk, OpenMode } from '@moonlink/core'

/** One call of a disk, by what it does and to which path. */
export interface DiskCall {
  readonly operation: 'open' | 'read' | 'write' | 'truncate' | 'sync' | 'list' | 'make' | 'rename' | 'remove' | 'syncDirectory'
  readonly path: string
}

export interface SimulatedLocalDiskOptions {
  /** Decides, in [0, 1), what a power cut takes. */
  readonly next: () => number
}

/** A file's content, whatever names it has. */
interface Inode {
  bytes: Buffer
  /** As of the last sync. */
  synced: Buffer
  /** Not 0 for bytes that a failed sync was to write: they count as clean until they are written again, and no later sync writes them. */
  dropped: Uint8Array | null
}

/**
 * A local disk in memory, with the semantics of fsync: the end of a process takes nothing, a power cut may take what was not synced, bytes and names alike,
 * and leave some of it spoiled; so may it what a failed sync was to write. Each process has a `session` of its own.
 */
export class SimulatedLocalDisk {
  /** Writes beyond this many bytes in all find the disk full. */
  capacity = Number.POSITIVE_INFINITY
  files = new Map<string, Inode>()
  syncedFiles = new Map<string, Inode>()
  readonly directories = new Set<string>(['/'])
  private readonly next: () => number

  constructor({ next }: SimulatedLocalDiskOptions) {
    this.next = next
  }

  /** Bytes of all files. */
  get usedBytes(): number {
    let used = 0
    for (const { bytes } of new Set(this.files.values())) used += bytes.length
    return used
  }

  /** What each file holds whose path is one of those. */
  textsOf(isWanted: (path: string) => boolean): string[] {
    return [...this.files].flatMap(([path, { bytes }]) => (isWanted(path) ? [bytes.toString()] : []))
  }

  /**
   * The disk as one process sees it. `intercept` is asked before each call: what it throws or waits for, the call does. `interceptSync` is asked before those that wait
   * for nothing.
   */
  session(
    intercept: (call: DiskCall) => Promise<void> | void = () => undefined,
    interceptSync: (call: DiskCall) => void = () => undefined,
  ): SimulatedDiskSession {
    return new SimulatedDiskSession(this, intercept, interceptSync)
  }

  /** The machine stops, and all sessions with it. Of what was not synced, each file and each name comes out as it was, as it is, or (bytes alone) something in between. */
  cutPower(): void {
    for (const inode of new Set([...this.files.values(), ...this.syncedFiles.values()])) this.settle(inode)
    const names = new Map<string, Inode>()
    for (const path of new Set([...this.files.keys(), ...this.syncedFiles.keys()])) {
      const inode = (this.next() < 0.5 ? this.files : this.syncedFiles).get(path)
      if (inode !== undefined) names.set(path, inode)
    }
    this.files = names
    this.syncedFiles = new Map(names)
  }

  /** Another disk in the place of this one, empty. */
  lose(): void {
    this.files.clear()
    this.syncedFiles.clear()
  }

  /** Flips one bit of one file's content; false where all files are empty. */
  flipBit(isVictim: (path: string) => boolean): boolean {
    const victims = [...this.files].filter(([path, { bytes }]) => bytes.length > 0 && isVictim(path))
    if (victims.length === 0) return false
    const { bytes } = victims[Math.floor(this.next() * victims.length)][1]
    const at = Math.floor(this.next() * bytes.length)
    bytes[at] ^= 1 << Math.floor(this.next() * 8)
    return true
  }

  private settle(inode: Inode): void {
    const { bytes, synced } = inode
    const draw = this.next()
    if (bytes.equals(synced) || draw < 0.3) inode.bytes = Buffer.from(synced)
    else if (draw < 0.9) {
      // The longer of the two lengths is never exceeded; bytes behind a place are old, or zeros where there were none.
      const from = Math.floor(this.next() * (bytes.length + 1))
      const isGrown = this.next() < 0.5
      const mixed = Buffer.alloc(isGrown ? bytes.length : Math.min(bytes.length, Math.max(from, synced.length)))
      synced.copy(mixed)
      bytes.copy(mixed, 0, 0, Math.min(from, mixed.length))
      inode.bytes = mixed
    }
    inode.dropped = null
    inode.synced = Buffer.from(inode.bytes)
  }
}

/** A disk as one process sees it. Every call ends in a later turn of the event loop. */
export class SimulatedDiskSession implements LocalDisk {
  private readonly disk: SimulatedLocalDisk
  private readonly intercept: (call: DiskCall) => Promise<void> | void
  private readonly interceptSync: (call: DiskCall) => void
  private isOver = false

  constructor(
    disk: SimulatedLocalDisk,
    intercept: (call: DiskCall) => Promise<void> | void,
    interceptSync: (call: DiskCall) => void = () => undefined,
  ) {
    this.disk = disk
    this.intercept = intercept
    this.interceptSync = interceptSync
  }

  /** The process is dead: none of its calls has an effect any more, or returns. */
  end(): void {
    this.isOver = true
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    await this.begin('open', path)
    let inode = this.disk.files.get(path)
    if (inode === undefined && (mode === 'read' || mode === 'update')) throw failure('ENOENT', 'open', path)
    if (inode !== undefined && mode === 'createNew') throw failure('EEXIST', 'open', path)
    if (inode === undefined) {
      if (!this.disk.directories.has(dirname(path))) throw failure('ENOENT', 'open', path)
      if (this.disk.usedBytes >= this.disk.capacity) throw failure('ENOSPC', 'open', path)
      inode = { bytes: Buffer.alloc(0), synced: Buffer.alloc(0), dropped: null }
      this.disk.files.set(path, inode)
    } else if (mode === 'create') {
      inode.bytes = Buffer.alloc(0)
      inode.dropped = null
    }
    return this.opened(path, inode)
  }

  async readFile(path: string): Promise<Buffer> {
    await this.begin('read', path)
    const inode = this.disk.files.get(path)
    if (inode === undefined) throw failure('ENOENT', 'open', path)
    return Buffer.from(inode.bytes)
  }

  async stat(path: string): Promise<{ readonly size: number; readonly modifiedMs: number }> {
    await this.begin('read', path)
    const inode = this.disk.files.get(path)
    if (inode === undefined) throw failure('ENOENT', 'stat', path)
    return { size: inode.bytes.length, modifiedMs: 0 }
  }

  async space(): Promise<DiskSpace> {
    await nextTurn()
    const { capacity, usedBytes } = this.disk
    return { size: capacity, free: Math.max(0, capacity - usedBytes) }
  }

  async list(directory: string): Promise<readonly string[]> {
    await this.begin('list', directory)
    if (!this.disk.directories.has(directory)) throw failure('ENOENT', 'scandir', directory)
    const prefix = `${directory}/`
    const names = [...this.disk.files.keys(), ...this.disk.directories].flatMap((path) =>
      path.startsWith(prefix) ? [path.slice(prefix.length)] : [],
    )
    return [...new Set(names.map((name) => name.split('/')[0]))]
  }

  async makeDirectory(path: string): Promise<void> {
    await this.begin('make', path)
    // Directories are never lost: those that matter are made once, long before.
    for (let at = path; !this.disk.directories.has(at); at = dirname(at)) this.disk.directories.add(at)
  }

  async rename(from: string, to: string): Promise<void> {
    await this.begin('rename', to)
    const inode = this.disk.files.get(from)
    if (inode === undefined) throw failure('ENOENT', 'rename', from)
    this.disk.files.delete(from)
    this.disk.files.set(to, inode)
  }

  async remove(path: string): Promise<void> {
    await this.begin('remove', path)
    const isGone = (name: string) => name === path || name.startsWith(`${path}/`)
    for (const name of this.disk.files.keys()) if (isGone(name)) this.disk.files.delete(name)
    for (const name of this.disk.directories) if (isGone(name)) this.disk.directories.delete(name)
  }

  async syncDirectory(path: string): Promise<void> {
    await this.begin('syncDirectory', path)
    for (const name of new Set([...this.disk.files.keys(), ...this.disk.syncedFiles.keys()])) {
      if (dirname(name) !== path) continue
      const inode = this.disk.files.get(name)
      if (inode === undefined) this.disk.syncedFiles.delete(name)
      else this.disk.syncedFiles.set(name, inode)
    }
  }

  private opened(path: string, inode: Inode): DiskFile {
    const begin = async (operation: DiskCall['operation']) => {
      await this.begin(operation, path)
    }
    const readSync = (into: Uint8Array, position: number) => inode.bytes.copy(into, 0, Math.min(position, inode.bytes.length))
    return {
      read: async (into, position) => {
        await begin('read')
        return readSync(into, position)
      },
      readSync: (into, position) => {
        this.interceptSync({ operation: 'read', path })
        return readSync(into, position)
      },
      write: async (bytes, position) => {
        await begin('write')
        const end = position + bytes.length
        const growth = Math.max(0, end - inode.bytes.length)
        if (growth > 0 && this.disk.usedBytes + growth > this.disk.capacity) throw failure('ENOSPC', 'write', path)
        if (growth > 0) inode.bytes = Buffer.concat([inode.bytes, Buffer.alloc(growth)])
        inode.bytes.set(bytes, position)
        inode.dropped?.fill(0, position, end)
      },
      truncate: async (length) => {
        await begin('truncate')
        const kept = inode.bytes.subarray(0, length)
        inode.bytes = Buffer.concat([kept, Buffer.alloc(length - kept.length)])
        inode.dropped?.fill(0, length)
      },
      size: async () => {
        await begin('read')
        return inode.bytes.length
      },
      sync: async () => {
        const bytes = Buffer.from(inode.bytes)
        try {
          await begin('sync')
        } catch (error) {
          // What was written meanwhile is not clean.
          inode.dropped = Uint8Array.from(bytes, (byte, at) => (byte === inode.bytes[at] ? 1 : 0))
          throw error
        }
        inode.synced = syncedBytes(bytes, inode)
      },
      close: () => nextTurn(),
    }
  }

  private async begin(operation: DiskCall['operation'], path: string): Promise<void> {
    if (!this.isOver) await this.intercept({ operation, path })
    await nextTurn()
    // Nobody is there any more to whom it could return.
    if (this.isOver) return new Promise(() => undefined)
  }
}

/** What a sync writes, byte for byte: after one that failed, what was written since. */
function syncedBytes(bytes: Buffer, { dropped, synced }: Inode): Buffer {
  if (dropped === null) return bytes
  return bytes.map((byte, at) => ((dropped[at] ?? 0) === 0 ? byte : (synced[at] ?? 0))) as Buffer
}

function failure(code: string, syscall: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${syscall} '${path}'`), { code, errno: -1, syscall, path })
}

/** I/O ends in a later turn of the event loop. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
