import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pauseMs, type Fault } from './chaos-warehouse.ts'

const MIB = 2 ** 20
const PIECE = Buffer.alloc(MIB)

/** A directory on a disk of its own, where one may be mounted: that one is full now and then. */
export class SmallDisk {
  readonly directory: string
  readonly faults: readonly Fault[]
  readonly isMounted: boolean

  private constructor(name: string, directory: string, isMounted: boolean) {
    this.directory = directory
    this.isMounted = isMounted
    this.faults = isMounted ? [{ name: `fill the disk of the ${name}`, inflict: (momentMs) => this.fillFor(momentMs) }] : []
  }

  static mount(name: string, directory: string, sizeMib: number): SmallDisk {
    mkdirSync(directory, { recursive: true })
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m`, 'none', directory], { stdio: 'ignore' })
      return new SmallDisk(name, directory, true)
    } catch {
      // Mounting is not allowed here: the other faults do.
      return new SmallDisk(name, directory, false)
    }
  }

  unmount(): void {
    if (this.isMounted) execFileSync('umount', ['-l', this.directory])
  }

  /** Leaves no room, until `free`. */
  async fill(): Promise<void> {
    const filler = await open(this.filler, 'a')
    try {
      for (;;) await filler.write(PIECE)
    } catch {
      // Full is what it shall be.
    } finally {
      await filler.close()
    }
  }

  async free(): Promise<void> {
    await rm(this.filler, { force: true })
  }

  private get filler(): string {
    return join(this.directory, 'filler')
  }

  private async fillFor(momentMs: number): Promise<void> {
    await this.fill()
    await pauseMs(momentMs)
    await this.free()
  }
}
