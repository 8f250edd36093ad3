import { readFile } from 'node:fs/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import {
  formatLsn,
  parseJsonLossless,
  parseLsn,
  valueAt,
  type JsonObject,
  type Lsn,
  type TableSnapshot,
  type TableStorage,
} from '@moonlink/core'
import { loadRoaring, PositionSet } from '@moonlink/deletion-log'
import { FileCatalog, openTableStorage, ParquetWorkerPool } from '@moonlink/iceberg-writer'
import { LocalObjectStore } from '@moonlink/object-store'
import { expectShown, type Shown } from './compare.ts'
import type { OracleSource } from './source.ts'
import { storedCell } from './stored-cells.ts'
import { mirrorName, type OracleTable } from './tables.ts'

/** A snapshot of an Iceberg table and the LSN it says it covers. */
export interface StampedSnapshot {
  readonly snapshotId: bigint
  readonly lsn: Lsn
}

/** Every snapshot that the table's metadata still has, oldest first. */
export async function stampedSnapshots(metadataLocation: string): Promise<StampedSnapshot[]> {
  const metadata = parseJsonLossless(await readFile(fileURLToPath(metadataLocation), 'utf8')) as JsonObject
  const snapshots = (metadata['snapshots'] ?? []) as readonly JsonObject[]
  return snapshots.flatMap((snapshot) => {
    const lsn = (snapshot['summary'] as Record<string, string>)['moonlink.lsn']
    return lsn === undefined ? [] : [{ snapshotId: BigInt(snapshot['snapshot-id'] as number | bigint), lsn: parseLsn(lsn) }]
  })
}

/** The table in a local warehouse; null where there is none yet, or nothing was committed. */
export async function openAtRest(table: OracleTable, warehouse: string, parquet: ParquetWorkerPool): Promise<TableStorage | null> {
  const store = new LocalObjectStore()
  const catalog = new FileCatalog({ store, warehouse: pathToFileURL(warehouse).href })
  if ((await catalog.load({ namespace: 'public', name: table.name })) === null) return null
  const storage = await openTableStorage({ table: { schema: 'public', name: table.name }, catalog, store, parquet })
  return storage.snapshot.committedLsn === null ? null : storage
}

/** Reads Iceberg tables of a local warehouse whose backend is not running, snapshot by snapshot, and compares them with the source. */
export class TablesAtRest {
  readonly #warehouse: string
  readonly #parquet = new ParquetWorkerPool({ workers: 1 })
  /** Snapshots compared. */
  compared = 0

  constructor(warehouse: string) {
    this.#warehouse = warehouse
  }

  async check(source: OracleSource): Promise<void> {
    await loadRoaring()
    for (const table of source.tables) {
      const storage = await openAtRest(table, this.#warehouse, this.#parquet)
      if (storage === null) continue
      for (const { snapshotId, lsn } of await stampedSnapshots(storage.snapshot.metadataLocation)) {
        const allowed = source.at(lsn).map((moment) => source.stateAt(moment, table.name, lsn))
        if (allowed.length === 0 || source.isHidden(table.name, lsn) || allowed.some((state) => state.table.isAbsent === true)) continue
        const found = await this.#shown(table, storage, await storage.loadSnapshot(snapshotId))
        expectShown(found, allowed, `${mirrorName(table)} in Iceberg, snapshot ${snapshotId} at ${formatLsn(lsn)}`)
        this.compared++
      }
    }
  }

  async close(): Promise<void> {
    await this.#parquet.close()
  }

  async #shown(table: OracleTable, storage: TableStorage, snapshot: TableSnapshot): Promise<Shown> {
    const dead = new Map(snapshot.vectors.map(({ dataFile, bitmap }) => [dataFile, PositionSet.fromPortable(bitmap)]))
    const { fields } = snapshot.schema
    const rowIds = new Set<number>()
    const rows: unknown[][] = []
    for (const file of snapshot.files) {
      for await (const scanned of storage.scanFile(file, fields, { lineage: true })) {
        for (let row = 0; row < scanned.rows.length; row++) {
          if (dead.get(file.path)?.has(scanned.firstRow + row)) continue
          rowIds.add(scanned.rowIds![row])
          rows.push(scanned.rows.columns.map((column, index) => storedCell(fields[index].type, valueAt(column, row))))
        }
      }
    }
    for (const set of dead.values()) set.dispose()
    if (rowIds.size !== rows.length) throw new Error(`${mirrorName(table)} in Iceberg: ${rows.length} rows share ${rowIds.size} row ids`)
    return { names: fields.map(({ name }) => name), rows }
  }
}
