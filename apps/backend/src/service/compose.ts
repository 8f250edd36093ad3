import { join } from 'node:path'
import {
  MoonlinkError,
  silentLogger,
  systemClock,
  systemRandom,
  type Clock,
  type Lease,
  type LeasePlace,
  type Logger,
  type Random,
  type Telemetry,
} from '@moonlink/core'
import { startPostgres } from '@moonlink/embedded-pg'
import { checkConditionalPut } from '@moonlink/object-store'
import type { Uninstalled } from '@moonlink/pg-source'
import type { Config } from '../config/schema.ts'
import { redactUrl } from '../config/source-url.ts'
import { makeShop, ShopLoad } from '../demo/shop.ts'
import type { ListedTable } from '../http/schemas.ts'
import { PrometheusTelemetry } from '../telemetry/prometheus.ts'
import { openSpans } from '../telemetry/spans.ts'
import { stateSamples } from '../telemetry/state-gauges.ts'
import { packageVersion } from '../version.ts'
import type { MoonlinkBackend } from './backend.ts'
import { CloseStack } from './close-stack.ts'
import { leasePlace } from './open-lease.ts'
import { openSource } from './open-source.ts'
import { openObjectStores } from './open-stores.ts'
import { openWarehouse } from './open-warehouse.ts'
import { startMirror } from './start-mirror.ts'
import { StartingOperations } from './starting-operations.ts'
import { StateFile } from './state-file.ts'
import { StateObject } from './state-object.ts'
import { lockStateDir } from './state-lock.ts'
import { stoppedBeforeMirroring } from './stopping.ts'
import type { StateStore } from './state.ts'
import { tableNotes } from './table-notes.ts'
import { asItIs, type WrapPort } from './wrap-port.ts'

export interface ComposeOptions {
  /** Called once the state directory is ours. */
  readonly logger: () => Logger
  /** Called next, before anything else is made. */
  readonly onOwned?: () => Promise<void>
  /** Told what takes a moment. */
  readonly onStep?: (line: string) => void
  /** Takes the lease of a log in the store. Default: at once or not at all. */
  readonly acquire?: (place: LeasePlace, logger: Logger) => Promise<Lease>
  /** Called once the source is open, or a standby waits for it to be; what it needs is made then, which may have to wait for transactions there. */
  readonly onStarting?: (starting: StartingOperations, logger: Logger) => Promise<void>
  /** Default: ports are used as they are. */
  readonly wrap?: WrapPort
}

export interface ComposedBackend {
  readonly backend: MoonlinkBackend
  readonly logger: Logger
  readonly telemetry: Telemetry
  /** The page that Prometheus scrapes. */
  metrics(): Promise<string>
  /** The source for people, without its password. */
  readonly sourceName: string
  /** Names of the mirrored tables; those that take changes come first. */
  readonly tables: readonly string[]
  /** For each table of the source that can't be mirrored, the reason, which names it. */
  readonly leftOut: readonly string[]
  /** What mirrored tables lack, and where earlier commands differ from the configuration. */
  readonly notes: readonly string[]
  /** Commits what was read and lets go of everything. Throws where a commit failed. */
  close(): Promise<void>
}

/** Builds a backend from its configuration and starts it; without a source, with an embedded Postgres and its demo. Throws `stoppedBeforeMirroring`. */
export async function composeBackend(config: Config, options: ComposeOptions): Promise<ComposedBackend> {
  const stack = new CloseStack()
  const stopped = new AbortController()
  try {
    const release = lockStateDir(config.stateDir)
    stack.push(async () => release())
    const logger = options.logger()
    await options.onOwned?.()
    const clock = systemClock
    const random = systemRandom
    const { wrap = asItIs } = options
    const ports = { clock, random, logger, wrap }
    const { lease, stateStore } = await openOwnership(config, ports, stack, options.acquire)
    // Looked at first: it costs a moment, and a database to start or to reach does not.
    const warehouse = await openWarehouse(config, ports)
    stack.push(() => warehouse.close())
    await warehouse.checkWritable()
    const demo = config.source.url === undefined ? await startDemo(config, stack, options.onStep) : null
    const url = demo ?? config.source.url!
    let started: MoonlinkBackend | null = null
    const stop = () => {
      if (started === null) stopped.abort(stoppedBeforeMirroring)
      else started.requestStop()
    }
    const starting = new StartingOperations({ warehouse: warehouse.uri, stop })
    let isServed = false
    const serve = async () => {
      if (!isServed) await options.onStarting?.(starting, logger)
      isServed = true
    }
    const spans = await openSpans(config.telemetry.otlpEndpoint, packageVersion, logger)
    stack.push(() => spans.close())
    const telemetry = new PrometheusTelemetry(spans)
    const { backend, close, engine } = await startMirror({
      ...ports,
      config,
      url,
      warehouse,
      lease,
      stateStore,
      telemetry,
      signal: stopped.signal,
      onSource: async (source) => {
        starting.source = source
        await serve()
      },
      onTrouble: async (error) => {
        const isNew = starting.source !== null || starting.trouble === null
        starting.source = null
        starting.trouble = error
        if (isNew) options.onStep?.(`the source is waited for: ${error.code} ${error.message}`)
        await serve()
      },
    })
    started = backend
    stack.push(close)
    stopped.signal.throwIfAborted()
    if (demo !== null) {
      const load = new ShopLoad(demo, clock, logger)
      stack.push(() => load.stop())
    }
    return {
      backend,
      logger,
      telemetry,
      metrics: async () => {
        const memory = { bytes: engine.memoryBytes, limitBytes: config.memory.limitBytes }
        const limits = { memory, changeLogBytes: config.changeLog.maxBytes, verifyShare: config.verify.share }
        return telemetry.page(stateSamples(await backend.status(), limits))
      },
      sourceName: demo === null ? redactUrl(url) : 'a demo shop in an embedded Postgres',
      ...tablesToShow((await backend.listTables()).tables, config),
      close: () => stack.close(),
    }
  } catch (error) {
    await stack.close().catch(() => undefined)
    throw stopped.signal.aborted ? stoppedBeforeMirroring : error
  }
}

function tablesToShow(listed: readonly ListedTable[], config: Config): Pick<ComposedBackend, 'tables' | 'leftOut' | 'notes'> {
  const mirrored = listed.filter((table) => table.mirrored)
  const takesChanges = ({ state }: ListedTable) => state === 'copying' || state === 'streaming'
  return {
    tables: [...mirrored.filter(takesChanges), ...mirrored.filter((table) => !takesChanges(table))].map(({ name }) => name),
    leftOut: listed.flatMap(({ mirrored, reason }) => (mirrored || reason === null ? [] : [reason])),
    notes: tableNotes(listed, config.source.tables),
  }
}

interface Ownership {
  readonly lease: Lease | null
  readonly stateStore: StateStore
}

/** Whose turn it is, and what the one before left: in the store where the log is, so that it does not take this machine to go on. */
async function openOwnership(
  config: Config,
  ports: { readonly clock: Clock; readonly random: Random; readonly logger: Logger; readonly wrap: WrapPort },
  stack: CloseStack,
  acquire: ComposeOptions['acquire'] = (place) => place.acquire({ waits: false }),
): Promise<Ownership> {
  const { enabled, kind, location } = config.changeLog
  if (!enabled || kind === 'local') return { lease: null, stateStore: new StateFile(config.stateDir, ports.logger) }
  const { store, close } = openObjectStores(config, ports)
  stack.push(close)
  await checkConditionalPut(store, `${location}/`, ports.random)
  const lease = await acquire(leasePlace(config, { ...ports, store }), ports.logger)
  stack.push(() => lease.release())
  return { lease, stateStore: new StateObject(store, `${location}/state/`, lease.epoch) }
}

/** An embedded Postgres with the demo shop, its data under the state directory. Returns its URL. */
async function startDemo(config: Config, stack: CloseStack, onStep: (line: string) => void = () => undefined): Promise<string> {
  onStep('no source is named, so an embedded Postgres with a demo shop is started (--source mirrors your own)')
  if (process.env['PGHOST'] !== undefined)
    onStep('PGHOST and the like name no source, they complete one: --source postgres:// takes all of it from them')
  const dataDir = join(config.stateDir, 'postgres')
  const postgres = await startPostgres({ dataDir, database: 'shop' })
  stack.push(() => postgres.stop())
  await makeShop(postgres.connectionString)
  const passwordFile = join(dataDir, 'moonlink.password')
  onStep(`embedded Postgres ${postgres.version}: ${redactUrl(postgres.connectionString)} (its password: ${passwordFile})`)
  return postgres.connectionString
}

/** Removes slot and publication of the configured source, and returns what was there to be removed. */
export async function uninstallSource(config: Config): Promise<Uninstalled> {
  const { url } = config.source
  if (url === undefined)
    throw new MoonlinkError('invalid', 'SOURCE_MISSING', 'no source is named; name it with --source, --config or DATABASE_URL.')
  const stack = new CloseStack()
  try {
    const release = lockStateDir(config.stateDir)
    stack.push(async () => release())
    const source = await openSource(config, url, silentLogger)
    stack.push(() => source.close())
    // Of a mirror that runs, nothing is taken away.
    await source.waitUntilUnused()
    return await source.uninstall()
  } finally {
    await stack.close()
  }
}
