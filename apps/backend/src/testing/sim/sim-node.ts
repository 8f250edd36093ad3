import {
  isMoonlinkError,
  silentLogger,
  type ChangeStream,
  type Clock,
  type CopyRange,
  type LocalDisk,
  type Lsn,
  type ObjectStore,
  type Random,
} from '@moonlink/core'
import { FileCatalog, openTableStorage } from '@moonlink/iceberg-writer'
import { FaultyObjectStore, seededFaults } from '@moonlink/object-store'
import { defaultEngineLimits, Engine, type EngineLimits } from '@moonlink/table-engine'
import { CrashingStore } from './crashing-store.ts'
import { simParquet } from './sim-parquet.ts'
import { simTables, tableNameOf, type SimSource } from './sim-source.ts'

export const WAREHOUSE = 'file:///warehouse'

/** Turns of the event loop that changes on their way take at most. */
const MAX_TURNS = 100_000

export const simLimits: EngineLimits = {
  ...defaultEngineLimits,
  flushRows: 40,
  copyFileBytes: 64,
  flushIntervalMs: 400,
  compaction: { ...defaultEngineLimits.compaction, minFiles: 3 },
  expiry: { minSnapshots: 2, maxAgeMs: 2000, intervalMs: 700 },
}

export interface SimNodeOptions {
  readonly source: SimSource
  /** Survives the node. */
  readonly store: ObjectStore
  /** Survives the node, or what its end leaves of it. */
  readonly disk: LocalDisk
  readonly clock: Clock
  readonly random: Random
  readonly seed: number
  /** Share of writes to the store that fail, and as many that lose their answer or come late. */
  readonly failing: number
  /** The call of the store at which the node dies, and whether that call still has its effect. */
  readonly crashAt: number
  readonly crashesAfterEffect: boolean
  /** Told of each range that a copy reads, and how many it need not read any more. */
  readonly onRangeRead: (table: string, done: number) => void
}

/** One life of a node: engine, Iceberg tables, stream and acknowledgements, on a store that fails and at last kills it. */
export class SimNode {
  readonly engine: Engine
  private readonly options: SimNodeOptions
  private readonly crashing: CrashingStore
  private readonly store: ObjectStore
  private readonly stopped = new AbortController()
  private stream: ChangeStream | null = null
  private failure: unknown = null
  /** The copy of what was never copied; resolves when it is over. */
  copying: Promise<void> = Promise.resolve()

  constructor(options: SimNodeOptions) {
    const { clock, failing, random, seed } = options
    this.options = options
    const plan = seededFaults({ seed, fail: failing, loseAnswer: failing, late: failing / 2, operations: ['put', 'putIfAbsent', 'delete'] })
    // What was on its way when the node died may still arrive: the faults lie behind the crash.
    const faulty = new FaultyObjectStore({ inner: options.store, plan, clock })
    this.crashing = new CrashingStore(faulty, options.crashAt, options.crashesAfterEffect)
    this.store = this.crashing
    this.engine = new Engine({ clock, random, logger: silentLogger, disk: options.disk, indexDirectory: '/index', limits: simLimits })
  }

  /** True where the node runs, false where it died on the way. Throws what no node should. */
  async start(): Promise<boolean> {
    return this.orDead(async () => {
      const { source } = this.options
      this.engine.requireCatchUp(await source.currentLsn())
      const missing: string[] = []
      for (const [name, schema] of Object.entries(simTables)) {
        const storage = await this.openStorage(name)
        const mirror = await this.engine.addMirror({ table: tableNameOf(name), schema, storage, appendOnly: false })
        if (mirror.committedLsn === null) missing.push(name)
      }
      if (missing.length > 0) {
        this.copying = this.copy(missing).catch((error: unknown) => {
          if (!isMoonlinkError(error, 'retry')) this.failure ??= error
          // As after any failure that may pass, another attempt is made; here by another node.
          this.kill()
        })
      }
      this.stream = await source.open(this.engine.restartLsn(), this.stopped.signal)
      void this.follow(this.stream).catch((error: unknown) => {
        this.failure ??= error
      })
    })
  }

  /** Housekeeping, as the backend does it ten times a second. */
  async tick(): Promise<void> {
    this.throwFailure()
    await this.engine.tick()
    this.stream?.acknowledge(this.engine.acknowledgeableLsn())
  }

  /** Runs work of this node; false where the node died meanwhile. */
  async orDead(work: () => Promise<void>): Promise<boolean> {
    const outcome = await Promise.race([work().then(() => 'done' as const), this.crashing.crashed.then(() => 'dead' as const)]).catch(
      (error: unknown) => {
        // A store that fails keeps a node from starting, as from anything else; it is started again.
        if (isMoonlinkError(error, 'retry')) return 'dead' as const
        throw error
      },
    )
    if (outcome === 'dead') this.kill()
    return outcome === 'done'
  }

  kill(): void {
    this.crashing.crash()
    this.stopped.abort(new Error('killed'))
  }

  get isAlive(): boolean {
    return !this.stopped.signal.aborted
  }

  onCrash(call: () => void): void {
    void this.crashing.crashed.then(call)
  }

  throwFailure(): void {
    if (this.failure !== null && this.isAlive) throw this.failure
    for (const { state, reason, table } of this.engine.status())
      if (state === 'failed' && this.isAlive) throw new Error(`${table.name} failed: ${reason}`)
  }

  private async copy(names: readonly string[]): Promise<void> {
    const { clock, onRangeRead, source } = this.options
    const copy = await source.copy()
    const { boundaryLsn } = copy
    for (const name of names) {
      const mirror = this.engine.mirror(name)!
      const table = tableNameOf(name)
      const { horizon, storage } = copy.table(table)
      const done = await mirror.beginCopy({ boundaryLsn, horizon, storage })
      const finished = async (range: CopyRange) => {
        await mirror.finishCopiedRange(range)
        onRangeRead(name, done.length)
      }
      await copy.read(table, (rows, range) => mirror.appendCopied(rows, range), { done, finished })
      for (let turns = 0; mirror.lacksChangesTo(boundaryLsn) && this.isAlive; turns++) {
        if (this.failure !== null) throw this.failure
        if (turns > MAX_TURNS) throw new Error(`${name} lacks changes to ${boundaryLsn} for good; applied ${this.engine.appliedLsn}`)
        await clock.sleep(1)
      }
      if (!this.isAlive) return
      await mirror.finishCopy(boundaryLsn, (ranges, since, take) => copy.readChanged(table, ranges, since, take))
    }
  }

  private async openStorage(name: string) {
    const { clock, random } = this.options
    const catalog = new FileCatalog({ store: this.store, warehouse: WAREHOUSE, clock, random })
    return openTableStorage({
      table: tableNameOf(name),
      schema: simTables[name],
      catalog,
      store: this.store,
      parquet: simParquet,
      takesOver: true,
      clock,
      random,
    })
  }

  private async follow(stream: ChangeStream): Promise<void> {
    for await (const event of stream) {
      if (!this.isAlive) return
      await this.engine.apply(event)
    }
  }
}

/** Every table is streaming and Iceberg has all that the source has. */
export async function settle(node: SimNode, source: SimSource, clock: { advance(ms: number): void }): Promise<void> {
  const lsn: Lsn = source.endLsn
  // Simulated time flies while files are written in real time.
  await node.engine.waitCommitted(lsn, 1e12).catch((error: Error) => {
    const states = node.engine
      .status()
      .map(({ table, state, reason, committedLsn }) => `${table.name} ${state} ${reason ?? ''} ${committedLsn}`)
    throw new Error(`${error.message}: ${states.join('; ')}; applied ${node.engine.appliedLsn}`, { cause: error })
  })
  await node.tick()
  clock.advance(1)
}
