import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pauseMs, type ChaosWarehouse, type Fault } from './chaos-warehouse.ts'

const DISK_MIB = 192

/** A directory, on a small disk of its own where one may be mounted: that one is full now and then. */
export class DiskWarehouse implements ChaosWarehouse {
  readonly args: readonly string[]
  readonly environment = {}
  readonly faults: readonly Fault[]
  private readonly directory: string
  private readonly hasOwnDisk: boolean

  private constructor(directory: string, hasOwnDisk: boolean) {
    this.directory = directory
    this.hasOwnDisk = hasOwnDisk
    this.args = ['--warehouse', join(directory, 'tables')]
    this.faults = hasOwnDisk ? [{ name: 'fill the disk', inflict: (momentMs) => this.fill(momentMs) }] : []
  }

  static open(directory: string): DiskWarehouse {
    mkdirSync(directory, { recursive: true })
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'none', directory], { stdio: 'ignore' })
      return new DiskWarehouse(directory, true)
    } catch {
      // Mounting is not allowed here: the other faults do.
      return new DiskWarehouse(directory, false)
    }
  }

  async close(): Promise<void> {
    if (this.hasOwnDisk) execFileSync('umount', ['-l', this.directory])
  }

  private async fill(momentMs: number): Promise<void> {
    const filler = join(this.directory, 'filler')
    try {
      writeFileSync(filler, Buffer.alloc(DISK_MIB * 2 ** 20))
    } catch {
      // Full is what it shall be.
    }
    await pauseMs(momentMs)
    rmSync(filler, { force: true })
  }
}
