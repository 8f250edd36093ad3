import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock, systemRandom } from '@moonlink/core'
import { FileCatalog } from '@moonlink/iceberg-writer'
import { LocalObjectStore, pathToFileUri } from '@moonlink/object-store'
import type { ChaosWarehouse, Fault, ReaderAccess } from './chaos-warehouse.ts'
import { SmallDisk } from './small-disk.ts'
import { unneededFiles } from './unneeded-files.ts'

const DISK_MIB = 192

/** A directory, on a small disk of its own where one may be mounted. */
export class DiskWarehouse implements ChaosWarehouse {
  readonly args: readonly string[]
  readonly environment = {}
  readonly faults: readonly Fault[]
  private readonly disk: SmallDisk

  private constructor(disk: SmallDisk) {
    this.disk = disk
    this.args = ['--warehouse', this.tables]
    this.faults = disk.faults
  }

  private get tables(): string {
    return join(this.disk.directory, 'tables')
  }

  static open(directory: string): DiskWarehouse {
    return new DiskWarehouse(SmallDisk.mount('warehouse', directory, DISK_MIB))
  }

  async access(names: readonly string[]): Promise<ReaderAccess> {
    const metadata = names.map((name) => newestMetadata(join(this.tables, ...name.split('.'), 'metadata')))
    return {
      metadata,
      spark: names.map((name) => ['--warehouse', this.tables, name]),
      pyiceberg: metadata.map((file) => ['--metadata', file]),
      duckdbPrelude: '',
    }
  }

  async unneeded(names: readonly string[]): Promise<readonly string[]> {
    const store = new LocalObjectStore()
    const catalog = new FileCatalog({ store, clock: systemClock, random: systemRandom, warehouse: pathToFileUri(this.tables) })
    return (await unneededFiles(store, catalog, names)).filter((uri) => !uri.endsWith('version-hint.text'))
  }

  async close(): Promise<void> {
    this.disk.unmount()
  }
}

function newestMetadata(directory: string): string {
  const versions = readdirSync(directory).flatMap((file) => /^v(\d+)\.metadata\.json$/.exec(file)?.[1] ?? [])
  return join(directory, `v${Math.max(...versions.map(Number))}.metadata.json`)
}
