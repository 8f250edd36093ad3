import type { ColumnBatch, SegmentId } from '@moonlink/core'
import type { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import type { FileScan, TablePlan } from '@moonlink/union-read'
import { DeadBits } from './dead-bits.ts'
import { DeletesTable } from './deletes-table.ts'
import type { LiveMask } from './live-mask.ts'
import type { LiveMasks } from './live-masks.ts'
import { NATIVE_DATABASE } from './open-duckdb.ts'
import { quoteName } from './sql-text.ts'
import { Mutex } from './mutex.ts'
import { TailTable } from './tail-table.ts'

/** A deletes table is made anew once it holds this many facts and most of them concern no live plan. */
const MIN_FACTS_TO_REBUILD = 200_000

type NativeTable = TailTable | DeletesTable | DeadBits | LiveMask

/** What one plan reads of the native tables. They stay until `release`. */
export interface CacheUse {
  readonly tails: ReadonlyMap<SegmentId, TailTable>
  /** Of the files that were to have one, where there was room for all of them. */
  readonly masks: ReadonlyMap<SegmentId, LiveMask>
  /** The dead rows of all other segments; null where they have none. */
  readonly deletes: DeletesTable | null
  /** Some of the dead rows of some of those segments once more, for statements that look at few of their rows. */
  readonly bits: DeadBits | null
  release(): void
}

/**
 * The native tables of one incarnation: a tail for each memory segment, its deletes, and live masks of files. `use` brings them up
 * to a plan; nothing is copied before a query asks for it. Tables that no plan used for a while are dropped by `sweep`, and come
 * back when needed.
 */
export class IncarnationCache {
  private readonly instance: DuckDBInstance
  private readonly newName: (kind: string) => string
  private readonly nowMs: () => number
  /** One at a time, so that two queries never append the same rows twice. */
  private readonly mutex = new Mutex()
  private readonly tails = new Map<SegmentId, TailTable>()
  private readonly masks: LiveMasks
  private readonly minBitFacts: number
  private deletes: DeletesTable | null = null
  private bits: DeadBits | null = null
  private retired: NativeTable[] = []
  private factsToCheck = MIN_FACTS_TO_REBUILD
  private connection: DuckDBConnection | null = null
  private asked = 0

  constructor(instance: DuckDBInstance, newName: (kind: string) => string, nowMs: () => number, masks: LiveMasks, minBitFacts: number) {
    this.instance = instance
    this.newName = newName
    this.nowMs = nowMs
    this.masks = masks
    this.minBitFacts = minBitFacts
  }

  /** Holds nothing, and nobody is about to make it hold something. */
  get isIdle(): boolean {
    return this.connection === null && this.asked === 0
  }

  /** `masked`: files whose dead rows are wanted as a live mask. */
  async use(plan: TablePlan, masked: readonly FileScan[]): Promise<CacheUse> {
    this.asked++
    try {
      return await this.mutex.run(() => this.hold(plan, masked))
    } finally {
      this.asked--
    }
  }

  private async hold(plan: TablePlan, masked: readonly FileScan[]): Promise<CacheUse> {
    const held: NativeTable[] = []
    const hold = <T extends NativeTable>(table: T): T => {
      table.users++
      held.push(table)
      return table
    }
    const release = () => {
      for (const table of held.splice(0)) {
        table.users--
        table.lastUsedMs = this.nowMs()
      }
    }
    try {
      const tails = new Map<SegmentId, TailTable>()
      for (const { segment, rows, rowCount } of plan.memory) {
        const tail = hold(await this.tailOf(segment, rows))
        await this.orRetire(tail, () => tail.extend(rows, rowCount))
        tails.set(segment, tail)
      }
      const masks = masked.length === 0 ? new Map<SegmentId, LiveMask>() : await this.masksOf(plan, masked)
      for (const mask of masks.values()) hold(mask)
      const dirty = [...plan.files, ...plan.memory]
        .filter((scan) => scan.hasDeletes && !masks.has(scan.segment))
        .map((scan) => scan.segment)
      const deletes = dirty.length === 0 ? null : hold(await this.deletesOf(plan))
      if (deletes) await this.orRetire(deletes, () => deletes.sync(plan.deletes, dirty))
      const files = plan.files.filter((file) => file.hasDeletes && !masks.has(file.segment))
      const bits = deletes && files.length > 0 ? await this.bitsOf(plan, deletes, files) : null
      if (bits) hold(bits)
      return { tails, masks, deletes, bits, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Drops what nobody uses and was last used before `usedBeforeMs`. */
  sweep(usedBeforeMs: number): Promise<void> {
    return this.mutex.run(async () => {
      const idle = (table: NativeTable) => table.users === 0 && table.lastUsedMs < usedBeforeMs
      for (const [segment, tail] of this.tails) {
        if (!idle(tail)) continue
        this.tails.delete(segment)
        this.retired.push(tail)
      }
      if (this.deletes && idle(this.deletes)) this.retireDeletes()
      if (this.bits && idle(this.bits)) this.retireBits()
      const drop = this.retired.filter((table) => table.users === 0)
      this.retired = this.retired.filter((table) => table.users > 0)
      for (const table of drop) await table.drop()
      await this.masks.sweep(usedBeforeMs)
      const isEmpty = this.tails.size === 0 && this.deletes === null && this.bits === null && this.masks.isEmpty
      if (isEmpty && this.retired.length === 0) this.disconnect()
    })
  }

  /** Closes the connection. Nothing may be used after. */
  close(): Promise<void> {
    return this.mutex.run(async () => {
      this.masks.forget()
      this.disconnect()
    })
  }

  private async connect(): Promise<DuckDBConnection> {
    if (this.connection === null) {
      this.connection = await this.instance.connect()
      await this.connection.run(`USE ${quoteName(NATIVE_DATABASE)}`)
    }
    return this.connection
  }

  private disconnect(): void {
    this.connection?.closeSync()
    this.connection = null
  }

  private async masksOf(plan: TablePlan, files: readonly FileScan[]): Promise<ReadonlyMap<SegmentId, LiveMask>> {
    return this.masks.of(plan, files, await this.connect(), () => this.newName('m'))
  }

  private async tailOf(segment: SegmentId, rows: ColumnBatch): Promise<TailTable> {
    const known = this.tails.get(segment)
    if (known?.holds(rows)) return known
    if (known) this.retired.push(known)
    this.tails.delete(segment)
    const tail = await TailTable.create(await this.connect(), this.newName('t'), rows.fields)
    this.tails.set(segment, tail)
    return tail
  }

  private async deletesOf(plan: TablePlan): Promise<DeletesTable> {
    if (this.deletes && this.deletes.factCount > this.factsToCheck) {
      const wanted = factsOf(plan)
      if (this.deletes.factCount > MIN_FACTS_TO_REBUILD + 2 * wanted) this.retireDeletes()
      this.factsToCheck = MIN_FACTS_TO_REBUILD + 2 * wanted
    }
    this.deletes ??= await DeletesTable.create(await this.connect(), this.newName('d'))
    return this.deletes
  }

  /** Null for a plan older than the bits: they show too many dead rows for it. */
  private async bitsOf(plan: TablePlan, deletes: DeletesTable, files: readonly FileScan[]): Promise<DeadBits | null> {
    const { endSeq } = plan.deletes
    if (this.bits !== null && this.bits.seq > endSeq) return null
    if (DeadBits.areDue(this.bits, deletes, this.minBitFacts)) {
      const segments = files.map((file) => file.segment)
      const made = await DeadBits.create(await this.connect(), this.newName('b'), deletes, segments, endSeq)
      this.retireBits()
      this.bits = made
    }
    return this.bits
  }

  private retireBits(): void {
    if (this.bits) this.retired.push(this.bits)
    this.bits = null
  }

  private retireDeletes(): void {
    this.retired.push(this.deletes!)
    this.deletes = null
  }

  /** A table whose append failed may hold half of it: it is never used again. */
  private async orRetire(table: NativeTable, append: () => void | Promise<void>): Promise<void> {
    try {
      await append()
    } catch (error) {
      if (table === this.deletes) this.retireDeletes()
      for (const [segment, tail] of this.tails) {
        if (tail !== table) continue
        this.tails.delete(segment)
        this.retired.push(tail)
      }
      throw error
    }
  }
}

function factsOf(plan: TablePlan): number {
  const segments = [...plan.files, ...plan.memory].map((scan) => scan.segment)
  return segments.reduce((sum, segment) => sum + plan.deletes.base(segment).length, plan.deletes.endSeq - plan.deletes.firstSeq)
}
