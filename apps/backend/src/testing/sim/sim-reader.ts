import { isMoonlinkError, minLsn, type Clock, type Lsn, type ObjectStore } from '@moonlink/core'
import { deadRows, type ReadLease, type TablePlan } from '@moonlink/union-read'
import type { Dice } from './random.ts'
import { sameAsOne } from './sim-compare.ts'
import { TABLES, type SimDatabase } from './sim-database.ts'
import type { SimNode } from './sim-node.ts'
import { decodeSimFile } from './sim-parquet.ts'
import { textsOf } from './sim-rows.ts'
import type { SimTotals } from './sim-totals.ts'

/** What a read may be refused by, besides what its node met. */
const refusals: ReadonlySet<string> = new Set([
  'ENGINE_CLOSED',
  'LEASE_LOST',
  'LEASE_UNCERTAIN',
  'TIMED_OUT',
  'LSN_NOT_HELD',
  'TABLE_CLOSED',
  'TABLE_COPYING',
  'TABLE_PAUSED',
  'TABLE_RESYNCING',
  'TABLE_UNKNOWN',
])
export interface SimReaderOptions {
  readonly database: SimDatabase
  readonly store: ObjectStore
  readonly clock: Clock
  readonly dice: Dice
  readonly totals: SimTotals
  /** Reads one table at a time, more often than all of them together. */
  readonly readsTablesAlone: boolean
  /** Whether files may go that a read of a table still needs: it was purged, or another node has taken over. */
  readonly mayLoseFiles: (node: SimNode, tables: readonly string[]) => boolean
}

/** A read, which may take its time. */
interface SlowRead {
  readonly node: SimNode
  readonly lease: ReadLease
}

const SLOW_SHARE = 0.15
const FINISHED_SHARE = 0.2

/** Whoever reads from nodes. */
export class SimReader {
  private readonly options: SimReaderOptions
  private lastLsn: Lsn = 0n
  private readonly slow: SlowRead[] = []

  constructor(options: SimReaderOptions) {
    this.options = options
  }

  /** What came after is lost: reads may go back so far. */
  failedOver(keptLsn: Lsn): void {
    this.lastLsn = minLsn(this.lastLsn, keptLsn)
  }

  /** Reads everything at one LSN, the newest or one of the past, and compares with what the database had then. */
  async read(node: SimNode): Promise<void> {
    const { database, dice, readsTablesAlone, totals } = this.options
    if (this.slow.length > 0 && dice.chance(FINISHED_SHARE)) await this.finishSlow()
    const lsn = dice.chance(0.5) ? null : database.lsns[Math.max(0, database.lsns.length - 1 - dice.below(12))]
    const tables = readsTablesAlone && dice.chance(0.6) ? [TABLES[dice.below(TABLES.length)]] : TABLES
    const lease = await this.acquire(node, lsn, tables)
    if (lease === null) return
    if (lsn === null) {
      if (lease.lsn < this.lastLsn) throw new Error(`a read went back from ${this.lastLsn} to ${lease.lsn}`)
      // A node that does not know of a failover yet may show what is lost with it.
      if (lease.lsn > database.pastEndLsn) this.lastLsn = lease.lsn
      totals.latest++
    } else totals.past++
    const isThere = await this.compare({ node, lease })
    if (isThere && dice.chance(SLOW_SHARE)) this.slow.push({ node, lease })
    else lease.release()
  }

  /** Reads the newest, and keeps the lease. What it gives reads the same again and lets go. */
  async hold(node: SimNode, timeoutMs: number): Promise<() => Promise<void>> {
    const lease = await node.engine.acquire({ tables: TABLES, lsn: null, timeoutMs })
    await this.compare({ node, lease })
    return async () => {
      await this.finish({ node, lease })
    }
  }

  /** Reads again what a lease is still held for. */
  private async finishSlow(): Promise<void> {
    const [slow] = this.slow.splice(this.options.dice.below(this.slow.length), 1)
    if (slow.node.isUp) await this.finish(slow)
  }

  private async finish(slow: SlowRead): Promise<void> {
    if (await this.compare(slow)) this.options.totals.slowReads++
    slow.lease.release()
  }

  /** False where its files are gone, as they may be. */
  private async compare({ lease: { lsn, tables }, node }: SlowRead): Promise<boolean> {
    const { database } = this.options
    try {
      for (const [name, plan] of tables) sameAsOne(await this.shown(plan), database.everAt(name, lsn), `${name} at ${lsn}`)
      return true
    } catch (error) {
      if (!this.mayMeet(error, node, [...tables.keys()])) throw error
      return false
    }
  }

  /** Null where the read is refused, as it may be, or the node dies or stands still. */
  private async acquire(node: SimNode, lsn: Lsn | null, tables: readonly string[]): Promise<ReadLease | null> {
    const acquired = node.engine.acquire({ tables, lsn, timeoutMs: 50 }).catch((error: unknown) => {
      if (isMoonlinkError(error) && (refusals.has(error.code) || node.process.met.has(error.code))) return null
      if (this.mayMeet(error, node, tables)) return null
      throw error
    })
    return Promise.race([acquired, node.process.died.then(() => null), this.options.clock.sleep(500).then(() => null)])
  }

  /** A file may be gone where another node has taken over. */
  private mayMeet(error: unknown, node: SimNode, tables: readonly string[]): boolean {
    return isMoonlinkError(error) && error.code === 'OBJECT_NOT_FOUND' && this.options.mayLoseFiles(node, tables)
  }

  /** What a reader of the plan sees. */
  async shown(plan: TablePlan): Promise<string[]> {
    const parts = plan.memory.map(({ segment, rows, rowCount }) => ({ segment, rows, rowCount }))
    for (const { segment, path, recordCount } of plan.files)
      parts.push({ segment, rows: decodeSimFile(await this.options.store.get(path)).rows, rowCount: recordCount })
    return parts.flatMap((part) => textsOf(part.rows, part.rowCount, new Set(deadRows(plan, part.segment)), plan.schema)).sort()
  }
}
