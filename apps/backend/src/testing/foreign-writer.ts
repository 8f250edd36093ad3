import { pathToFileURL } from 'node:url'
import type { Catalog, JsonObject, LoadedTable, TableIdentifier, TableStorage } from '@moonlink/core'
import { FileCatalog, openTableStorage, ParquetWorkerPool } from '@moonlink/iceberg-writer'
import { LocalObjectStore } from '@moonlink/object-store'

/** Another engine that writes to Iceberg tables of a local warehouse. */
export class ForeignWriter {
  readonly #store = new LocalObjectStore()
  readonly #catalog: FileCatalog
  readonly #parquet = new ParquetWorkerPool({ workers: 1 })

  constructor(warehouse: string) {
    this.#catalog = new FileCatalog({ store: this.#store, warehouse: pathToFileURL(warehouse).href })
  }

  /** A table as it is now. */
  open(name: string): Promise<TableStorage> {
    const table = { schema: 'public', name }
    return openTableStorage({ table, catalog: unmarked(this.#catalog), store: this.#store, parquet: this.#parquet })
  }

  /** Adds a copy of every row that is in files. */
  async double(name: string): Promise<void> {
    const storage = await this.open(name)
    const { fields } = storage.snapshot.schema
    const writer = storage.createFile(fields)
    for (const file of storage.snapshot.files) for await (const { rows } of storage.scanFile(file, fields)) await writer.append(rows)
    await storage.commit({ kind: 'append', addFiles: [await writer.finish()], removeFiles: [], vectors: [], lsn: 1n })
  }

  /** Makes an earlier snapshot the current one. */
  async rollBack(name: string, snapshotId: bigint): Promise<void> {
    const back = { action: 'set-snapshot-ref', 'ref-name': 'main', type: 'branch', 'snapshot-id': snapshotId }
    await this.#catalog.commit({ namespace: 'public', name }, [], [back])
  }

  async drop(name: string): Promise<void> {
    await this.#catalog.drop({ namespace: 'public', name }, true)
  }

  async close(): Promise<void> {
    await this.#parquet.close()
  }
}

/** A catalog whose commits have no marks of a mirror. */
function unmarked(inner: Catalog): Catalog {
  return {
    load: (table) => inner.load(table),
    create: (table, options) => inner.create(table, options),
    drop: (table, purge) => inner.drop(table, purge),
    list: (namespace) => inner.list(namespace),
    commit: (table: TableIdentifier, requirements: readonly JsonObject[], updates: readonly JsonObject[]): Promise<LoadedTable> =>
      inner.commit(
        table,
        requirements,
        updates
          .filter(({ action }) => action !== 'set-properties')
          .map((update) => (update['action'] === 'add-snapshot' ? withoutMarks(update) : update)),
      ),
  }
}

function withoutMarks(update: JsonObject): JsonObject {
  const snapshot = update['snapshot'] as JsonObject
  const marks = Object.entries(snapshot['summary'] as JsonObject).filter(([key]) => !key.startsWith('moonlink.'))
  return { ...update, snapshot: { ...snapshot, summary: Object.fromEntries(marks) } }
}
