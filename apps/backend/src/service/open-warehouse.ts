import { join } from 'node:path'
import {
  isMoonlinkError,
  MoonlinkError,
  randomUuid,
  type Catalog,
  type Clock,
  type LocalFileSets,
  type Logger,
  type ObjectStore,
  type Random,
  type TableName,
  type TableStorage,
  type TextCopies,
} from '@moonlink/core'
import { openTableStorage, ParquetWorkerPool, removeTableFiles, VariantTextCopies, type RemovedTable } from '@moonlink/iceberg-writer'
import { checkConditionalPut } from '@moonlink/object-store'
import type { Config } from '../config/schema.ts'
import { openCatalog } from './open-catalog.ts'
import { openStores, type OpenedStores } from './open-stores.ts'
import type { OpenTableOptions, Warehouse } from './parts.ts'
import type { WrapPort } from './wrap-port.ts'

export interface WarehousePorts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly wrap: WrapPort
}

/** Opens stores, catalog and Parquet workers of the configured warehouse. */
export async function openWarehouse(config: Config, ports: WarehousePorts): Promise<OpenedWarehouse> {
  const stores = await openStores(config, ports)
  const catalog = ports.wrap('catalog', openCatalog(config, stores.store, ports))
  const parquet = new ParquetWorkerPool({ workers: config.parquet.workers })
  const { localFiles } = stores
  const textCopies = await VariantTextCopies.open({
    localFiles,
    parquet,
    directory: variantCopiesDirectory(config),
    maxBytes: config.cache.limitBytes,
  })
  return new OpenedWarehouse(config, ports, { ...stores, catalog, parquet, textCopies })
}

interface Opened extends OpenedStores {
  readonly catalog: Catalog
  readonly parquet: ParquetWorkerPool
  readonly textCopies: TextCopies
}

/** Where SQL's copies of files with variants live. */
export function variantCopiesDirectory({ stateDir }: Config): string {
  return join(stateDir, 'variants')
}

export class OpenedWarehouse implements Warehouse {
  readonly uri: string
  readonly catalog: Catalog
  readonly localFiles: LocalFileSets
  readonly textCopies: TextCopies
  readonly store: ObjectStore
  readonly #config: Config
  readonly #ports: WarehousePorts
  readonly #opened: Opened
  /** Stores that took a file. */
  readonly #writable = new Set<string>()

  constructor(config: Config, ports: WarehousePorts, opened: Opened) {
    this.uri = config.warehouse ?? config.catalog.uri ?? 'the catalog'
    this.catalog = opened.catalog
    this.localFiles = opened.localFiles
    this.textCopies = opened.textCopies
    this.store = opened.store
    this.#config = config
    this.#ports = ports
    this.#opened = opened
  }

  /** Throws `invalid` with the remedy where nothing can be written there. Where the catalog alone knows the place, `openTable` does, before anything is copied. */
  async checkWritable(): Promise<void> {
    if (this.#config.warehouse === null) return
    await this.#checkWritableBelow(`${this.uri}/`)
  }

  async #checkWritableBelow(prefix: string): Promise<void> {
    const probe = `${prefix}.moonlink-probe-${randomUuid(this.#ports.random)}`
    try {
      await this.#opened.store.put(probe, new Uint8Array(probeBytes))
      await this.#opened.store.delete(probe)
      if (this.#config.catalog.kind === 'file') await checkConditionalPut(this.#opened.store, prefix, this.#ports.random)
      this.#writable.add(storeOf(prefix))
    } catch (error) {
      if (!isMoonlinkError(error)) throw error
      throw new MoonlinkError(error.kind, error.code, `the warehouse can't be written: ${error.message}`, {
        context: error.context,
        cause: error,
      })
    }
  }

  async openTable(table: TableName, { schema, ...options }: OpenTableOptions): Promise<TableStorage> {
    const { store, catalog, parquet, localFiles } = this.#opened
    const storage = await openTableStorage({
      ...this.#ports,
      ...options,
      table,
      catalog,
      store,
      parquet,
      localFiles,
      takesOver: true,
      ...(schema === null ? {} : { schema }),
      ...(this.#config.catalog.kind === 'rest' && this.#config.warehouse !== null
        ? { location: `${this.uri}/${table.schema}/${table.name}` }
        : {}),
    })
    const { metadataLocation } = storage.snapshot
    if (!this.#writable.has(storeOf(metadataLocation))) await this.#checkWritableBelow(metadataLocation.replace(/[^/]*$/, ''))
    return storage
  }

  removeFiles(table: RemovedTable, beforeEach: () => Promise<void>): Promise<void> {
    return removeTableFiles(table, { store: this.#opened.store, logger: this.#ports.logger, beforeEach })
  }

  removeFile(uri: string): Promise<void> {
    return this.#opened.store.delete(uri)
  }

  async close(): Promise<void> {
    await this.#opened.parquet.close()
    await this.#opened.close()
  }
}

/** `s3://bucket`; for a local path nothing, or its scheme. */
function storeOf(uri: string): string {
  return /^[a-z0-9]+:\/\/[^/]*/.exec(uri)?.[0] ?? ''
}

/** Enough to notice a disk that is full but for a few bytes. */
const probeBytes = 64 * 1024
