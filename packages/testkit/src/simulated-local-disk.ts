import { dirname } from 'node:path'
import type { DiskFile, LocalDisk, OpenMode } from '@moonlink/core'

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
}

/** What a process sees dies with it: its open files do nothing any more. */
interface Life {
  isOver: boolean
}

/**
 * A local disk in memory, with the semantics of fsync: the end of a process takes nothing (`restart`), a power cut may take what was not synced, bytes
 * and names alike, and leave some of it spoiled (`cutPower`). Every call ends in a later turn of the event loop, in an order of its own.
 */
export class SimulatedLocalDisk implements LocalDisk {
  /** Asked before each call: what it throws or waits for, the call does. */
  intercept: (call: DiskCall) => Promise<void> | void = () => undefined
  /** Writes beyond this many bytes in all find the disk full. */
  capacity = Number.POSITIVE_INFINITY
  private readonly next: () => number
  private files = new Map<string, Inode>()
  private syncedFiles = new Map<string, Inode>()
  private directories = new Set<string>(['/'])
  private life: Life = { isOver: false }

  constructor({ next }: SimulatedLocalDiskOptions) {
    this.next = next
  }

  /** Bytes of all files. */
  get usedBytes(): number {
    let used = 0
    for (const { bytes } of new Set(this.files.values())) used += bytes.length
    return used
  }

  /** The process that used it is dead, and another begins: who had files open can do nothing with them any more. */
  restart(): void {
    this.life.isOver = true
    this.life = { isOver: false }
  }

  /** The machine stops. Of what was not synced, each file and each name comes out as it was, as it is, or (bytes alone) something in between. */
  cutPower(): void {
    this.restart()
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
    this.restart()
    this.files.clear()
    this.syncedFiles.clear()
  }

  /** Flips a bit of a file that has any; false where none has. */
  flipBit(isVictim: (path: string) => boolean): boolean {
    const victims = [...this.files].filter(([path, { bytes }]) => bytes.length > 0 && isVictim(path))
    if (victims.length === 0) return false
    const { bytes } = victims[Math.floor(this.next() * victims.length)][1]
    const at = Math.floor(this.next() * bytes.length)
    bytes[at] ^= 1 << Math.floor(this.next() * 8)
    return true
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const life = await this.begin('open', path)
    let inode = this.files.get(path)
    if (inode === undefined && (mode === 'read' || mode === 'update')) throw failure('ENOENT', 'open', path)
    if (inode !== undefined && mode === 'createNew') throw failure('EEXIST', 'open', path)
    if (inode === undefined) {
      if (!this.directories.has(dirname(path))) throw failure('ENOENT', 'open', path)
      inode = { bytes: Buffer.alloc(0), synced: Buffer.alloc(0) }
      this.files.set(path, inode)
    } else if (mode === 'create') inode.bytes = Buffer.alloc(0)
    return this.opened(path, inode, life)
  }

  async readFile(path: string): Promise<Buffer> {
    await this.begin('read', path)
    const inode = this.files.get(path)
    if (inode === undefined) throw failure('ENOENT', 'open', path)
    return Buffer.from(inode.bytes)
  }

  async list(directory: string): Promise<readonly string[]> {
    await this.begin('list', directory)
    if (!this.directories.has(directory)) throw failure('ENOENT', 'scandir', directory)
    const prefix = `${directory}/`
    const names = [...this.files.keys(), ...this.directories].flatMap((path) =>
      path.startsWith(prefix) ? [path.slice(prefix.length)] : [],
    )
    return [...new Set(names.map((name) => name.split('/')[0]))]
  }

  async makeDirectory(path: string): Promise<void> {
    await this.begin('make', path)
    // Directories are never lost: those that matter are made once, long before.
    for (let at = path; !this.directories.has(at); at = dirname(at)) this.directories.add(at)
  }

  async rename(from: string, to: string): Promise<void> {
    await this.begin('rename', to)
    const inode = this.files.get(from)
    if (inode === undefined) throw failure('ENOENT', 'rename', from)
    this.files.delete(from)
    this.files.set(to, inode)
  }

  async remove(path: string): Promise<void> {
    await this.begin('remove', path)
    const isGone = (name: string) => name === path || name.startsWith(`${path}/`)
    for (const name of this.files.keys()) if (isGone(name)) this.files.delete(name)
    for (const name of this.directories) if (isGone(name)) this.directories.delete(name)
  }

  async syncDirectory(path: string): Promise<void> {
    await this.begin('syncDirectory', path)
    for (const name of new Set([...this.files.keys(), ...this.syncedFiles.keys()])) {
      if (dirname(name) !== path) continue
      const inode = this.files.get(name)
      if (inode === undefined) this.syncedFiles.delete(name)
      else this.syncedFiles.set(name, inode)
    }
  }

  private opened(path: string, inode: Inode, life: Life): DiskFile {
    const begin = async (operation: DiskCall['operation']) => {
      await this.begin(operation, path, life)
    }
    const readSync = (into: Uint8Array, position: number) => inode.bytes.copy(into, 0, Math.min(position, inode.bytes.length))
    return {
      read: async (into, position) => {
        await begin('read')
        return readSync(into, position)
      },
      readSync,
      write: async (bytes, position) => {
        await begin('write')
        const end = position + bytes.length
        const growth = Math.max(0, end - inode.bytes.length)
        if (growth > 0 && this.usedBytes + growth > this.capacity) throw failure('ENOSPC', 'write', path)
        if (growth > 0) inode.bytes = Buffer.concat([inode.bytes, Buffer.alloc(growth)])
        inode.bytes.set(bytes, position)
      },
      truncate: async (length) => {
        await begin('truncate')
        const kept = inode.bytes.subarray(0, length)
        inode.bytes = Buffer.concat([kept, Buffer.alloc(length - kept.length)])
      },
      size: async () => {
        await begin('read')
        return inode.bytes.length
      },
      sync: async () => {
        const bytes = Buffer.from(inode.bytes)
        await begin('sync')
        inode.synced = bytes
      },
      close: () => nextTurn(),
    }
  }

  private async begin(operation: DiskCall['operation'], path: string, life = this.life): Promise<Life> {
    await this.intercept({ operation, path })
    await nextTurn()
    // Nobody is there any more to whom it could return.
    if (life.isOver) return new Promise(() => undefined)
    return life
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
    inode.synced = Buffer.from(inode.bytes)
  }
}

function failure(code: string, syscall: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${syscall} '${path}'`), { code, syscall, path })
}

/** I/O ends in a later turn of the event loop. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
