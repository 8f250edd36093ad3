import { join } from 'node:path'
import type { ChaosWarehouse, Fault } from './chaos-warehouse.ts'
import { SmallDisk } from './small-disk.ts'

const DISK_MIB = 192

/** A directory, on a small disk of its own where one may be mounted. */
export class DiskWarehouse implements ChaosWarehouse {
  readonly args: readonly string[]
  readonly environment = {}
  readonly faults: readonly Fault[]
  private readonly disk: SmallDisk

  private constructor(disk: SmallDisk) {
    this.disk = disk
    this.args = ['--warehouse', join(disk.directory, 'tables')]
    this.faults = disk.faults
  }

  static open(directory: string): DiskWarehouse {
    return new DiskWarehouse(SmallDisk.mount('warehouse', directory, DISK_MIB))
  }

  async close(): Promise<void> {
    this.disk.unmount()
  }
}
