import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock, systemRandom } from '@moonlink/core'
import { FileCatalog, reachableFiles } from '@moonlink/iceberg-writer'
import { LocalObjectStore, pathToFileUri } from '@moonlink/object-store'
import type { ChaosWarehouse, Fault, ReaderAccess } from './chaos-warehouse.ts'
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

  /** Files that no snapshot of these tables needs. Throws where one that is needed is missing. */
  async unneeded(names: readonly string[]): Promise<readonly string[]> {
    const store = new LocalObjectStore()
    const catalog = new FileCatalog({ store, clock: systemClock, random: systemRandom, warehouse: pathToFileUri(this.tables) })
    const left: string[] = []
    for (const table of names) {
      const [namespace, name] = table.split('.')
      const loaded = await catalog.load({ namespace, name })
      if (loaded === null) throw new Error(`${table} is not in the catalog`)
      const needed = await reachableFiles(store, loaded)
      const found = new Set<string>()
      for await (const { uri } of store.list(`${catalog.locationOf({ namespace, name })}/`)) found.add(uri)
      for (const uri of needed) if (!found.has(uri)) throw new Error(`${table} needs ${uri}, which is not there`)
      left.push(...[...found].filter((uri) => !needed.has(uri) && !uri.endsWith('version-hint.text')))
    }
    return left
  }

  async close(): Promise<void> {
    this.disk.unmount()
  }
}

function newestMetadata(directory: string): string {
  const versions = readdirSync(directory).flatMap((file) => /^v(\d+)\.metadata\.json$/.exec(file)?.[1] ?? [])
  return join(directory, `v${Math.max(...versions.map(Number))}.metadata.json`)
}
