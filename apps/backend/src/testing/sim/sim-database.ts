import { assert, maxLsn, type Lsn } from '@moonlink/core'
import { rowText, SimShapes, type SimRow } from './sim-rows.ts'

/** What a transaction does to one table, in its order; `old` is the row replaced or deleted. */
export type SimChange =
  | { readonly kind: 'insert'; readonly row: SimRow }
  | { readonly kind: 'update'; readonly old: SimRow; readonly row: SimRow }
  | { readonly kind: 'delete'; readonly old: SimRow }
  | { readonly kind: 'truncate' }
  /** Rows have another shape from here on. */
  | { readonly kind: 'reshape'; readonly version: number }
  /** Rows change unseen. */
  | { readonly kind: 'rewrite'; readonly rows: readonly SimRow[] }

/** What a transaction does to one table. */
export interface SimPart {
  readonly table: string
  /** Of the shape that its rows have before it. */
  readonly version: number
  readonly changes: readonly SimChange[]
}

export interface SimTransaction {
  readonly beginLsn: Lsn
  readonly endLsn: Lsn
  readonly parts: readonly SimPart[]
}

export const KEYED = 'sim.keyed'
export const BAG = 'sim.bag'
export const TABLES = [KEYED, BAG] as const

interface State {
  readonly lsn: Lsn
  readonly rows: ReadonlyMap<string, readonly SimRow[]>
  readonly versions: ReadonlyMap<string, number>
}

/** A database in memory with its whole past, and a slot: that keeps transactions until they are acknowledged, and no longer. */
export class SimDatabase {
  readonly shapes = new Map<string, SimShapes>([
    [KEYED, new SimShapes([1])],
    [BAG, new SimShapes([])],
  ])
  private rows = new Map<string, SimRow[]>(TABLES.map((name) => [name, []]))
  private readonly transactions: SimTransaction[] = []
  private readonly states: State[] = []
  /** Where a row lies, and since when. */
  private readonly places = new WeakMap<SimRow, { readonly page: number; readonly lsn: Lsn }>()
  private placed = 0
  private end: Lsn = 1000n
  /** What the slot has let go of; null while there is no slot. */
  forgotten: Lsn | null = null
  /** The slot is there, and of no use any more. */
  isInvalidated = false
  /** Tables whose rows changed unseen, and those that were emptied, by the LSN at which that was last. */
  readonly rewritten = new Map<string, Lsn>()
  readonly truncated = new Map<string, Lsn>()

  constructor() {
    this.remember()
  }

  get endLsn(): Lsn {
    return this.end
  }

  /** LSNs of every state there was. */
  get lsns(): readonly Lsn[] {
    return this.states.map(({ lsn }) => lsn)
  }

  rowsOf(table: string): readonly SimRow[] {
    return this.rows.get(table)!
  }

  placeOf(row: SimRow): { readonly page: number; readonly lsn: Lsn } {
    return this.places.get(row)!
  }

  acknowledge(lsn: Lsn): void {
    assert(lsn <= this.end, 'nothing is acknowledged that was not sent', { lsn })
    if (this.forgotten !== null) this.forgotten = maxLsn(this.forgotten, lsn)
  }

  /** Where the slot is, which is made where there is none of use. */
  ensureSlot(): Lsn {
    if (this.isInvalidated) this.forgotten = null
    this.isInvalidated = false
    return (this.forgotten ??= this.end)
  }

  /** The server lets go of the log that the slot needs, or somebody drops the slot. */
  loseSlot(isDropped: boolean): void {
    if (isDropped) this.forgotten = null
    else this.isInvalidated = this.forgotten !== null
  }

  commit(parts: readonly SimPart[]): void {
    const beginLsn = this.end + 1n
    this.end += BigInt(10 + parts.reduce((sum, { changes }) => sum + changes.length, 0))
    for (const { table, changes } of parts) for (const change of changes) this.apply(table, change)
    this.transactions.push({ beginLsn, endLsn: this.end, parts })
    this.remember()
  }

  /** A table's rows as texts, sorted, at an LSN. */
  at(table: string, lsn: Lsn): string[] {
    const state = this.states.findLast((candidate) => candidate.lsn <= lsn)
    assert(state !== undefined, 'the LSN is not before the first')
    const { schema } = this.shapes.get(table)!.at(state.versions.get(table)!)
    return state.rows
      .get(table)!
      .map((row) => rowText(row, schema))
      .sort()
  }

  after(lsn: Lsn): SimTransaction | undefined {
    return this.transactions.find(({ endLsn }) => endLsn > lsn)
  }

  private apply(table: string, change: SimChange): void {
    const rows = this.rows.get(table)!
    if (change.kind === 'reshape') return
    if (change.kind === 'truncate') {
      this.truncated.set(table, this.end)
      this.rows.set(table, [])
      return
    }
    if (change.kind === 'rewrite') {
      this.rewritten.set(table, this.end)
      this.rows.set(table, [...change.rows])
      for (const row of change.rows) this.place(row)
      return
    }
    if (change.kind !== 'insert') {
      const at = rows.indexOf(change.old)
      assert(at >= 0, 'a change names a row that is there')
      rows.splice(at, 1)
    }
    if (change.kind === 'delete') return
    rows.push(change.row)
    this.place(change.row)
  }

  /** Anywhere, as a page with room may be: a row that is updated moves. */
  private place(row: SimRow): void {
    this.placed = (this.placed * 5 + 3) % 16
    this.places.set(row, { page: this.placed % PAGES, lsn: this.end })
  }

  private remember(): void {
    this.states.push({
      lsn: this.end,
      rows: new Map([...this.rows].map(([name, list]) => [name, [...list]])),
      versions: new Map([...this.shapes].map(([name, shapes]) => [name, shapes.current])),
    })
  }
}

export const PAGES = 6
