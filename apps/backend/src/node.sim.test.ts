import { isMoonlinkError, systemClock, valueAt, type Lsn, type Random } from '@moonlink/core'
import { FileCatalog, openTableStorage } from '@moonlink/iceberg-writer'
import { loadRoaring, PositionSet } from '@moonlink/deletion-log'
import { MemoryObjectStore } from '@moonlink/object-store'
import { SimulatedLocalDisk } from '@moonlink/testkit'
import { deadRows, type TablePlan } from '@moonlink/union-read'
import { beforeAll, expect, test } from 'vitest'
import { nextTurn, SimClock } from './testing/sim/sim-clock.ts'
import { settle, SimNode, WAREHOUSE } from './testing/sim/sim-node.ts'
import { decodeSimFile, simParquet } from './testing/sim/sim-parquet.ts'
import { rowText, simTables, SimSource, tableNameOf, type SimChange, type SimRow } from './testing/sim/sim-source.ts'

/**
 * Whole nodes in simulation: real engine, Iceberg tables, key indexes and deletion vectors, on a store that fails, loses answers, is late and kills the node at
 * any of its calls. MOONLINK_SIM_RUNS for more runs, MOONLINK_SIM_SEED for one that failed.
 */
const runs = Number(process.env['MOONLINK_SIM_RUNS'] ?? 120)
/** The same in CI, so that a change does not fail for what it did not bring. */
const defaultSeed = process.env['CI'] === undefined ? Math.floor(systemClock.nowMs() % 1_000_000_000) : 620_604_485
const firstSeed = Number(process.env['MOONLINK_SIM_SEED'] ?? defaultSeed)

beforeAll(() => loadRoaring())

class World {
  readonly clock = new SimClock()
  readonly store = new MemoryObjectStore({ clock: this.clock })
  readonly source = new SimSource()
  readonly next: () => number
  readonly random: Random
  node: SimNode | null = null
  crashes = 0
  readonly reads = { latest: 0, past: 0 }
  /** Ranges that a copy read after an earlier node had read others. */
  rangesResumed = 0
  private nextId = 1
  private lastReadLsn: Lsn = 0n
  private readonly losesDisk: boolean
  private readonly disk: SimulatedLocalDisk

  constructor(seed: number) {
    this.next = mulberry32(seed)
    this.disk = new SimulatedLocalDisk({ next: this.next })
    this.losesDisk = this.next() < 0.3
    // The first copy has something to read, and is cut off now and then.
    for (let count = this.int(40); count > 0; count--) this.transact()
    this.random = { bytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(this.next() * 256)) }
  }

  int(below: number): number {
    return Math.floor(this.next() * below)
  }

  async step(): Promise<void> {
    if (this.node === null || !this.node.isAlive) return this.restart()
    const draw = this.next()
    if (draw < 0.45) this.transact()
    else if (draw < 0.65) await this.breathe()
    else if (draw < 0.75) void this.node.engine.flush().catch(() => undefined)
    else if (draw < 0.95) await this.read()
    else if (draw < 0.965) this.node.kill()
    await this.breathe()
  }

  /** Starts a node on what the one before it left. */
  async restart(isGentle = false): Promise<void> {
    if (this.node !== null) this.crashes++
    const draw = this.next()
    if (this.losesDisk && draw < 0.3) this.disk.lose()
    else if (draw < 0.5) this.disk.cutPower()
    else this.disk.restart()
    this.node = new SimNode({
      source: this.source,
      store: this.store,
      disk: this.disk,
      clock: this.clock,
      random: this.random,
      seed: this.int(2 ** 31),
      failing: isGentle || this.next() < 0.5 ? 0 : 0.05,
      crashAt: isGentle ? Number.POSITIVE_INFINITY : 5 + this.int(150),
      crashesAfterEffect: this.next() < 0.5,
      onRangeRead: (_table, done) => {
        if (done > 0) this.rangesResumed++
      },
    })
    const { node } = this
    const isUp = await node.start()
    // Else everything goes on beside the copy, if there is one.
    if (isUp && this.next() < 0.3) await node.orDead(() => node.copying)
  }

  /** Lets the node work for a moment. */
  async breathe(): Promise<void> {
    for (let turn = 0; turn < 4; turn++) await nextTurn()
    this.clock.advance(60)
    if (this.node?.isAlive) await this.node.tick()
  }

  private transact(): void {
    const changes: SimChange[] = []
    const rows = new Map([...this.source.rows].map(([name, list]) => [name, [...list]]))
    for (let count = 1 + this.int(6); count > 0; count--) changes.push(this.change(rows))
    this.source.commit(changes)
  }

  private change(all: Map<string, SimRow[]>): SimChange {
    const table = this.next() < 0.6 ? 'sim.keyed' : 'sim.bag'
    const rows = all.get(table)!
    const draw = this.next()
    const text = this.next() < 0.1 ? null : `t${this.int(4)}`
    if (rows.length === 0 || draw < 0.5) {
      const row = { id: table === 'sim.bag' ? this.int(5) : this.nextId++, text }
      rows.push(row)
      return { table, kind: 'insert', old: null, row }
    }
    const at = this.int(rows.length)
    const [old] = rows.splice(at, 1)
    if (draw < 0.7) return { table, kind: 'delete', old, row: null }
    const row = { id: table === 'sim.keyed' && draw < 0.78 ? this.nextId++ : old.id, text }
    rows.push(row)
    return { table, kind: 'update', old, row }
  }

  /** Reads everything at one LSN, the newest or one of the past, and compares with what the source had then. */
  private async read(): Promise<void> {
    const { node, source } = this
    const tables = Object.keys(simTables)
    const lsn = this.next() < 0.5 ? null : source.lsns[Math.max(0, source.lsns.length - 1 - this.int(12))]
    let lease
    try {
      const acquired = node!.engine.acquire({ tables, lsn, timeoutMs: 50 })
      acquired.catch(() => undefined)
      lease = await Promise.race([acquired, this.died(node!)])
    } catch (error) {
      if (isMoonlinkError(error) && ['TIMED_OUT', 'LSN_NOT_HELD', 'STORE_UNAVAILABLE', 'TABLE_COPYING'].includes(error.code)) return
      throw error
    }
    if (lease === null) return
    if (lsn === null) {
      expect(lease.lsn, 'reads never go back').toBeGreaterThanOrEqual(this.lastReadLsn)
      this.lastReadLsn = lease.lsn
      this.reads.latest++
    } else this.reads.past++
    for (const name of tables)
      expect(await this.shown(lease.tables.get(name)!), `${name} at ${lease.lsn}`).toEqual(source.at(name, lease.lsn))
    lease.release()
  }

  private died(node: SimNode): Promise<null> {
    return new Promise((resolve) => node.onCrash(() => resolve(null)))
  }

  /** What a reader of the plan sees. */
  private async shown(plan: TablePlan): Promise<string[]> {
    const parts = plan.memory.map(({ segment, rows, rowCount }) => ({ segment, rows, rowCount }))
    for (const { segment, path, recordCount } of plan.files)
      parts.push({ segment, rows: decodeSimFile(await this.store.get(path)).rows, rowCount: recordCount })
    return parts.flatMap((part) => rowsOf(part.rows, part.rowCount, new Set(deadRows(plan, part.segment)))).sort()
  }

  /** What Iceberg alone holds, read by somebody who knows nothing of the node. */
  async atRest(name: string): Promise<{ lsn: Lsn; rows: string[] }> {
    const { clock, random, store } = this
    const catalog = new FileCatalog({ store, warehouse: WAREHOUSE, clock, random })
    const { snapshot } = await openTableStorage({ table: tableNameOf(name), catalog, store, parquet: simParquet, clock, random })
    const vectors = new Map(snapshot.vectors.map((vector) => [vector.dataFile, vector.bitmap]))
    const rows: string[] = []
    for (const { path, recordCount } of snapshot.files) {
      const vector = vectors.get(path)
      const dead = new Set(vector === undefined ? [] : PositionSet.fromPortable(vector).toArray())
      rows.push(...rowsOf(decodeSimFile(await store.get(path)).rows, recordCount, dead))
    }
    return { lsn: snapshot.committedLsn!, rows: rows.sort() }
  }

  /** Runs on without faults until all is committed; then memory, Iceberg and source are the same, and nothing lies about. */
  async finish(): Promise<void> {
    if (this.node?.isAlive) this.node.kill()
    await this.restart(true)
    const { node, source } = this
    const ticking = { on: true }
    const ticks = (async () => {
      while (ticking.on) await this.breathe()
    })()
    try {
      await settle(node!, source, this.clock)
      for (const name of Object.keys(simTables)) {
        const { lsn, rows } = await this.atRest(name)
        expect(rows, `${name} in Iceberg at ${lsn}`).toEqual(source.at(name, lsn))
      }
      const lease = await node!.engine.acquire({ tables: Object.keys(simTables), lsn: null, timeoutMs: 1e12 })
      for (const [name, plan] of lease.tables) expect(await this.shown(plan), name).toEqual(source.at(name, source.endLsn))
      lease.release()
      expect(source.forgotten).toBeGreaterThan(1000n)
    } finally {
      ticking.on = false
      await ticks
      node!.kill()
    }
  }

  dispose(): void {
    this.clock.stop()
  }
}

function rowsOf(batch: TablePlan['memory'][number]['rows'], count: number, dead: ReadonlySet<number>): string[] {
  const texts: string[] = []
  for (let row = 0; row < count; row++) {
    if (dead.has(row)) continue
    texts.push(rowText({ id: Number(valueAt(batch.columns[0], row)), text: valueAt(batch.columns[1], row) as string | null }))
  }
  return texts
}

test(
  `${runs} nodes that crash at any call of the store lose and repeat nothing (first seed ${firstSeed})`,
  { timeout: 600_000 },
  async () => {
    const totals = { crashes: 0, latest: 0, past: 0, rangesResumed: 0 }
    for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
      const world = new World(seed)
      try {
        const steps = 40 + world.int(80)
        for (let step = 0; step < steps; step++) await world.step()
        await world.finish()
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
      } finally {
        world.dispose()
      }
      totals.crashes += world.crashes
      totals.latest += world.reads.latest
      totals.past += world.reads.past
      totals.rangesResumed += world.rangesResumed
    }
    // Runs in which nothing happened would prove nothing.
    expect(totals.crashes).toBeGreaterThan(runs / 2)
    expect(totals.latest).toBeGreaterThan(runs)
    expect(totals.past).toBeGreaterThan(runs)
    expect(totals.rangesResumed).toBeGreaterThan(0)
  },
)

function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
