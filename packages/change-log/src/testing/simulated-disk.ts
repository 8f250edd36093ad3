import { MoonlinkError } from '@moonlink/core'
import type { LogDisk, LogFile } from '../log-disk.ts'

interface SimulatedFile {
  bytes: Buffer
  synced: number
  isNameSafe: boolean
  /** A sync failed: what it was to write counts as written since, and no later one writes it. */
  isDoubtful?: boolean
}

/** What a crash does to a file: bytes behind its synced part are kept up to `keep` (a share), and some of those are garbage. */
export interface CrashFate {
  readonly keep: number
  readonly garbageAt: number | null
}

/** A disk in memory with the semantics of fsync: a crash takes, or spoils, what was not synced. */
export class SimulatedDisk implements LogDisk {
  readonly canAppend = true
  readonly readsAtOnce = 3
  readonly roomBytes = null
  readonly files = new Map<string, SimulatedFile>()
  /** Writes beyond this many bytes in all find the disk full. */
  capacity = Number.POSITIVE_INFINITY
  /** How many more operations work before one fails. */
  failAfter = Number.POSITIVE_INFINITY
  /** Writes go on, but nothing becomes safe. */
  failSyncs = false
  private generation = 0

  async list(): Promise<readonly string[]> {
    await turn()
    return [...this.files.keys()]
  }

  async read(name: string): Promise<Buffer> {
    await turn()
    const file = this.files.get(name)
    if (file === undefined) throw new MoonlinkError('retry', 'LOG_DISK_FAILED', `no file ${name}`)
    return Buffer.from(file.bytes)
  }

  async create(name: string): Promise<LogFile> {
    await this.operation(0)
    if (this.files.has(name)) throw new MoonlinkError('conflict', 'LOG_SEGMENT_EXISTS', `${name} is there already.`)
    const file: SimulatedFile = { bytes: Buffer.alloc(0), synced: 0, isNameSafe: false }
    this.files.set(name, file)
    return this.open(file)
  }

  async sync(name: string): Promise<void> {
    await this.operation(0)
    const file = this.files.get(name)!
    file.synced = file.bytes.length
    file.isNameSafe = true
    file.isDoubtful = false
  }

  async remove(name: string): Promise<void> {
    await turn()
    this.files.delete(name)
  }

  locate(name: string): string {
    return `/disk/${name}`
  }

  /** The machine stops: who had files open can do nothing with them any more. */
  crash(fates: readonly CrashFate[]): void {
    this.generation++
    let index = 0
    for (const [name, file] of this.files) {
      const { keep, garbageAt } = fates[index++ % fates.length]
      const unsynced = file.bytes.length - file.synced
      if (!file.isNameSafe && keep < 0.5) {
        this.files.delete(name)
        continue
      }
      const kept = Buffer.from(file.bytes.subarray(0, file.synced + Math.floor(unsynced * keep)))
      const spoiled = file.synced + Math.floor((garbageAt ?? 1) * (kept.length - file.synced))
      if (garbageAt !== null && spoiled < kept.length) kept.fill(0, spoiled, Math.min(kept.length, spoiled + 13))
      this.files.set(name, { bytes: kept, synced: kept.length, isNameSafe: true })
    }
    this.failAfter = Number.POSITIVE_INFINITY
  }

  private open(file: SimulatedFile): LogFile {
    const { generation } = this
    const alive = () => {
      if (this.generation !== generation) throw new MoonlinkError('retry', 'LOG_DISK_FAILED', 'the machine stopped')
    }
    return {
      write: async (bytes) => {
        await this.operation(bytes.length)
        alive()
        file.bytes = Buffer.concat([file.bytes, bytes])
      },
      sync: async () => {
        const { length } = file.bytes
        try {
          await this.operation(0)
          if (this.failSyncs) throw new MoonlinkError('retry', 'LOG_DISK_FAILED', 'the disk failed.')
        } catch (error) {
          file.isDoubtful = true
          throw error
        }
        alive()
        file.isNameSafe = true
        if (!file.isDoubtful) file.synced = length
      },
      close: () => turn(),
    }
  }

  private async operation(bytes: number): Promise<void> {
    await turn()
    if (this.failAfter-- <= 0) throw new MoonlinkError('retry', 'LOG_DISK_FAILED', 'the disk failed.')
    let used = bytes
    for (const file of this.files.values()) used += file.bytes.length
    if (bytes > 0 && used > this.capacity) throw new MoonlinkError('invalid', 'LOG_DISK_FULL', 'no room to write: free space.')
  }
}

/** I/O ends in a later turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
