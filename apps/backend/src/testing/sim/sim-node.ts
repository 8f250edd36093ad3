import { ObjectLease } from '@moonlink/change-log'
import {
  MoonlinkError,
  randomUuid,
  silentTelemetry,
  type Catalog,
  type Clock,
  type Lease,
  type LocalDisk,
  type Logger,
  type ObjectStore,
} from '@moonlink/core'
import { FileCatalog, openTableStorage, removeTableFiles, type ParquetPort } from '@moonlink/iceberg-writer'
import { LocalFileCache } from '@moonlink/object-store'
import { Engine } from '@moonlink/table-engine'
import { loadConfig } from '../../config/load.ts'
import type { Config } from '../../config/schema.ts'
import { MoonlinkBackend } from '../../service/backend.ts'
import { openChangeLog } from '../../service/open-change-log.ts'
import type { Warehouse } from '../../service/parts.ts'
import { StateFile } from '../../service/state-file.ts'
import { StateObject } from '../../service/state-object.ts'
import { asItIs } from '../../service/wrap-port.ts'
import type { Dice } from './random.ts'
import { simCatalog, type SimCatalogServer } from './sim-catalog.ts'
import type { SimDatabase } from './sim-database.ts'
import { threadedParquet } from './sim-parquet.ts'
import type { SimProcess } from './sim-process.ts'
import type { SimProfile } from './sim-profile.ts'
import { SimSource, type SimSlot } from './sim-source.ts'

export const WAREHOUSE = 's3://sim/warehouse'
export const STATE_DIR = '/state'

function configFor(log: 'local' | 'store' | 'none'): Config {
  const changeLog = { kind: log === 'store' ? 'store' : 'local', enabled: log !== 'none', syncIntervalMs: 100 }
  const source = { url: 'postgres://sim/sim', onSchemaChange: 'resync' }
  const flags = { source, warehouse: WAREHOUSE, stateDir: STATE_DIR, changeLog, verify: { share: 0 }, flush: { deniedMs: '500ms' } }
  const { config } = loadConfig({ flags, environment: {}, workingDirectory: '/' })
  return config
}

const configs = { local: configFor('local'), store: configFor('store'), none: configFor('none') }

export interface SimNodeOptions {
  readonly database: SimDatabase
  readonly slot: SimSlot
  readonly process: SimProcess
  /** Of the world: they survive the node. */
  readonly store: ObjectStore
  /** Null where the catalog is in the store. */
  readonly catalog: SimCatalogServer | null
  readonly disk: LocalDisk
  /** Bytes that its cache of files may take; null where it has none. */
  readonly cacheBytes: number | null
  readonly dice: Dice
  readonly profile: SimProfile
  /** Where the change log is; with one in the store there may be a second node, which waits for the first one's end. */
  readonly log: 'local' | 'store' | 'none'
  /** One of the machine's, not of the node's. */
  readonly home: string
  readonly logger: Logger
  readonly onCopy: (node: SimNode, table: string) => void
  readonly onRangeRead: (done: number) => void
  /** Whether a code says of something that was done to the node that it can't go on: with its next life it does. */
  readonly mayEndBy: (code: string) => boolean
}

/** One life of a node: a backend of real parts, but for Postgres, the disk, the store, the time and Parquet. */
export class SimNode {
  readonly process: SimProcess
  readonly engine: Engine
  readonly log: SimNodeOptions['log']
  private readonly options: SimNodeOptions
  private readonly store: ObjectStore
  private readonly catalog: Catalog
  private readonly parquet: ParquetPort
  private lease: Lease | null = null
  private readonly waiting = new AbortController()
  /** Null until it has started, which a standby does once it has the lease. */
  backend: MoonlinkBackend | null = null
  /** Nobody waits for what can't be had just now: tables fail by that, and go on in the next life. */
  isEnding = false
  /** What no node should end by. */
  fault: Error | null = null
  /** Resolves when the node is up, or dead. */
  readonly started: Promise<void>

  constructor(options: SimNodeOptions) {
    const { dice, disk, log, logger, process, store } = options
    this.options = options
    this.process = process
    this.log = log
    const { clock } = process
    const { random } = dice
    this.store = process.store(store)
    const inStore = () => new FileCatalog({ store: this.store, warehouse: WAREHOUSE, clock, random, logger })
    this.catalog = options.catalog === null ? inStore() : simCatalog(options.catalog, process)
    this.parquet = threadedParquet(process, disk)
    this.engine = new Engine({ clock, random, logger, disk, indexDirectory: `${STATE_DIR}/index`, limits: options.profile.limits })
    void process.died.then(() => this.waiting.abort(new Error('killed')))
    this.started = Promise.race([process.died, this.start()])
  }

  /** It may write the log, and whoever did so before it may not. */
  get hasLease(): boolean {
    return this.lease !== null
  }

  get isUp(): boolean {
    return this.backend !== null && this.process.isAlive
  }

  /** Ends as when asked to, with its last commits. */
  async stop(): Promise<void> {
    this.isEnding = true
    await Promise.race([this.process.died, this.close()])
    this.process.kill()
  }

  private async start(): Promise<void> {
    try {
      const { clock } = this.process
      const { database, disk, dice, home, log, logger, onCopy, onRangeRead, process, slot } = this.options
      const { profile } = this.options
      const usual = configs[log]
      // Smaller than a configuration may have them, so that segments end and the log fills.
      const config = { ...usual, changeLog: { ...usual.changeLog, segmentBytes: profile.segmentBytes, maxBytes: profile.logBytes } }
      if (log === 'store') this.lease = await this.takeLease(home, clock, logger)
      const lease = this.lease
      const source = new SimSource({
        database,
        slot,
        process,
        transactionBytes: profile.transactionBytes,
        evictsStale: lease !== null && lease.predecessor !== null,
        onCopy: (table) => onCopy(this, table),
        onRangeRead,
        logger,
      })
      const ports = { clock, random: dice.random, logger }
      this.backend = await MoonlinkBackend.start({
        ...ports,
        config,
        source,
        warehouse: this.warehouse(await this.openCache()),
        engine: this.engine,
        sql: { query: () => Promise.reject(new Error('nothing is queried in a simulation')), close: async () => undefined },
        openLog: (sourceFromLsn) =>
          openChangeLog(config, { ...ports, store: this.store, disk, wrap: asItIs, lease, source: source.identity, sourceFromLsn }),
        stateStore:
          lease === null
            ? new StateFile(STATE_DIR, logger, disk)
            : new StateObject(this.store, `${config.changeLog.location}/state/`, lease.epoch),
        lease,
        telemetry: silentTelemetry,
      })
      void this.backend.ended.then((error) => this.end(error))
    } catch (error) {
      void this.end(error as Error)
    }
  }

  private takeLease(home: string, clock: Clock, logger: Logger): Promise<Lease> {
    const holder = { id: randomUuid(this.options.dice.random), home, name: `a node of ${home}` }
    const place = new ObjectLease({
      store: this.store,
      prefix: `${WAREHOUSE}/.moonlink/changelog/lease/`,
      holder,
      clock,
      logger,
      monotonicMs: () => this.process.monotonicMs(),
    })
    return place.acquire({ waits: true, signal: this.waiting.signal })
  }

  private async openCache(): Promise<LocalFileCache | null> {
    const { cacheBytes, dice, disk } = this.options
    if (cacheBytes === null) return null
    const { clock } = this.process
    return LocalFileCache.open({
      store: this.store,
      disk,
      directory: `${STATE_DIR}/cache`,
      maxBytes: cacheBytes,
      clock,
      random: dice.random,
    })
  }

  private warehouse(localFiles: LocalFileCache | null): Warehouse {
    const { catalog, store } = this
    const { dice, logger } = this.options
    return {
      uri: WAREHOUSE,
      catalog,
      openTable: (table, { schema, ...options }) =>
        openTableStorage({
          ...options,
          table,
          ...(schema === null ? {} : { schema }),
          properties: { ...options.properties, 'write.metadata.previous-versions-max': '4' },
          catalog,
          store,
          parquet: this.parquet,
          ...(localFiles === null ? {} : { localFiles }),
          takesOver: true,
          clock: this.process.clock,
          random: dice.random,
          logger,
        }),
      removeFiles: (table, beforeEach) => removeTableFiles(table, { store, logger, beforeEach }),
      removeFile: (uri) => store.delete(uri),
      close: async () => undefined,
    }
  }

  private async close(): Promise<void> {
    try {
      await this.backend?.close()
      await this.lease?.release()
    } catch (error) {
      this.judge(error as Error)
    }
  }

  /** The process ends by itself, in order as far as that goes. */
  private async end(error: Error | null): Promise<void> {
    if (error !== null) this.judge(error)
    await this.stop()
  }

  private judge(error: Error): void {
    if (!this.process.isAlive) return
    const { log, mayEndBy, process } = this.options
    // Where nothing went wrong, nothing passes; without a second node, nobody takes over.
    const passes = (kind: string) => (kind === 'retry' && process.met.size > 0) || (kind === 'fenced' && log === 'store')
    const isFine = error instanceof MoonlinkError && (passes(error.kind) || mayEndBy(error.code))
    if (!isFine) this.fault ??= error
  }
}
