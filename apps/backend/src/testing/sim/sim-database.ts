import { assert, formatLsn, maxLsn, minLsn, type Lsn, type TableShape } from '@moonlink/core'
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
  | { readonly kind: 'drop' }
  /** Another table under the name, of that shape. */
  | { readonly kind: 'create'; readonly version: number }

/** What a transaction does to one table. */
export interface SimPart {
  readonly table: string
  /** Of the shape that its rows have before it; null where there is no table. */
  readonly version: number | null
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
  /** Null for tables that are not there. */
  readonly versions: ReadonlyMap<string, number | null>
  readonly rewritten: ReadonlyMap<string, Lsn>
  readonly truncated: ReadonlyMap<string, Lsn>
}

/** A timeline that a failover ended. */
interface Past {
  readonly timeline: number
  /** Where the next one left it. */
  readonly leftAt: Lsn
  readonly endLsn: Lsn
  /** What the next one lacks. */
  readonly lost: readonly State[]
}

/** What a failover does. */
export interface Failover {
  /** How many of the last transactions the new primary lacks. */
  readonly lost: number
  /** Where its slot is, of which the new primary's may lag; null where it did not come along. */
  readonly slotLsn: Lsn | null
}

/**
 * A database in memory with its whole past, and a slot: that keeps transactions until they are acknowledged, and no longer. After a failover it goes on on another timeline, with
 * other changes at the LSNs of those that were lost.
 */
export class SimDatabase {
  readonly shapes = new Map<string, SimShapes>([
    [KEYED, new SimShapes(true)],
    [BAG, new SimShapes(false)],
  ])
  private rows = new Map<string, SimRow[]>(TABLES.map((name) => [name, []]))
  private transactions: SimTransaction[] = []
  private states: State[] = []
  private readonly pasts: Past[] = []
  /** Where a row lies, and since when. */
  private readonly places = new WeakMap<SimRow, { readonly page: number; readonly lsn: Lsn }>()
  private placed = 0
  private end: Lsn = 1000n
  /** Up to here somebody was told what there is, on the present timeline or before it. */
  toldThrough: Lsn = 0n
  /** What no client should do. */
  fault: Error | null = null
  /** What the slot has let go of; null while there is no slot. */
  forgotten: Lsn | null = null
  /** The slot is there, and of no use any more. */
  isInvalidated = false
  /** Tables whose rows changed unseen, or that were made anew, and those that were emptied, by the LSN at which that was last on the present timeline or before it. */
  private rewritten = new Map<string, Lsn>()
  private truncated = new Map<string, Lsn>()
  /** How often a table was made that had been dropped. */
  remakes = 0

  constructor() {
    this.remember()
  }

  get endLsn(): Lsn {
    return this.end
  }

  get timeline(): number {
    return this.pasts.length + 1
  }

  /** As a timeline history file has it. */
  get history(): string {
    return this.pasts.map(({ leftAt, timeline }) => `${timeline}\t${formatLsn(leftAt)}\tno recovery target specified\n`).join('')
  }

  /** Where the longest of the timelines ended that are over. */
  get pastEndLsn(): Lsn {
    return this.pasts.reduce((end, past) => maxLsn(end, past.endLsn), 0n)
  }

  /** Something was said that is so up to there. */
  told(lsn: Lsn): void {
    this.toldThrough = maxLsn(this.toldThrough, lsn)
  }

  /** Where the last transactions but so many end. */
  endBefore(lost: number): Lsn {
    return this.transactions.at(-1 - lost)?.endLsn ?? 1000n
  }

  /** How many transactions came since the last promotion: a standby lacks none before that. */
  get losable(): number {
    const since = this.pasts.at(-1)?.leftAt ?? 0n
    return this.transactions.filter(({ endLsn }) => endLsn > since).length
  }

  /** A standby is promoted, which lacks the last transactions. */
  failOver({ lost, slotLsn }: Failover): void {
    const keptLsn = this.endBefore(lost)
    // It may have a part of the first one that it lacks.
    const leftAt = keptLsn + (lost > 0 ? 5n : 0n)
    const isKept = ({ lsn }: State) => lsn <= keptLsn
    this.pasts.push({
      timeline: this.timeline,
      leftAt: maxLsn(leftAt, lost > 0 ? 0n : this.end),
      endLsn: this.end,
      lost: this.states.filter((state) => !isKept(state)),
    })
    this.states = this.states.filter(isKept)
    this.transactions = this.transactions.filter(({ endLsn }) => endLsn <= keptLsn)
    const { rewritten, rows, truncated, versions } = this.states.at(-1)!
    this.rows = new Map([...rows].map(([name, list]) => [name, [...list]]))
    this.rewritten = new Map(rewritten)
    this.truncated = new Map(truncated)
    for (const [name, shapes] of this.shapes) shapes.comeBackTo(versions.get(name) ?? null)
    // Promotion is written to the log, too.
    this.end = this.pasts.at(-1)!.leftAt + 3n
    if (this.forgotten !== null) this.forgotten = slotLsn
    this.isInvalidated &&= this.forgotten !== null
    this.toldThrough = minLsn(this.toldThrough, this.end)
  }

  /** LSNs of every state there was. */
  get lsns(): readonly Lsn[] {
    return this.states.map(({ lsn }) => lsn)
  }

  /** How a table's rows are now; null where there is no table. */
  shapeOf(table: string): TableShape | null {
    const shapes = this.shapes.get(table)!
    return shapes.current === null ? null : shapes.at(shapes.current)
  }

  /** Which of the tables of that name has the shape. */
  oidOf(table: string, { sourceState }: TableShape): number {
    return this.shapes.get(table)!.oidOf(Number(sourceState))
  }

  /** Which of the tables of that name there is; null where there is none. */
  currentOidOf(table: string): number | null {
    const shapes = this.shapes.get(table)!
    return shapes.current === null ? null : shapes.oidOf(shapes.current)
  }

  rowsOf(table: string): readonly SimRow[] {
    return this.rows.get(table)!
  }

  /** When a table's rows last changed unseen, or it was made anew; null where neither was. */
  rewrittenAt(table: string): Lsn | null {
    return this.rewritten.get(table) ?? null
  }

  /** Names the storage that its rows are in. */
  storageOf(table: string): string {
    return `${this.rewritten.get(table)} ${this.truncated.get(table)}`
  }

  placeOf(row: SimRow): { readonly page: number; readonly lsn: Lsn } {
    return this.places.get(row)!
  }

  acknowledge(lsn: Lsn): void {
    if (lsn > this.end) this.fault ??= new Error(`${lsn} was acknowledged, and the log ends at ${this.end}`)
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

  /** A table's rows as texts, sorted, at an LSN; null where there was no table. */
  at(table: string, lsn: Lsn): string[] | null {
    return this.textsIn(this.states, table, lsn)
  }

  /** The same as whoever does not know of failovers yet may have them: as they were on each timeline that had that LSN, and the table. */
  everAt(table: string, lsn: Lsn): string[][] {
    const before = this.pasts.flatMap(({ endLsn, lost }) => {
      if (lsn > endLsn || lost.length === 0 || lsn < lost[0].lsn) return []
      return [this.textsIn(lost, table, lsn)]
    })
    return [this.at(table, lsn), ...before].filter((texts) => texts !== null)
  }

  private textsIn(states: readonly State[], table: string, lsn: Lsn): string[] | null {
    const state = states.findLast((candidate) => candidate.lsn <= lsn)
    assert(state !== undefined, 'the LSN is not before the first')
    const version = state.versions.get(table) ?? null
    if (version === null) return null
    const { schema } = this.shapes.get(table)!.at(version)
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
    if (change.kind === 'drop' || change.kind === 'create') {
      if (change.kind === 'create') this.remakes++
      this.rewritten.set(table, this.end)
      this.rows.set(table, [])
      return
    }
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
      rewritten: new Map(this.rewritten),
      truncated: new Map(this.truncated),
    })
  }
}

export const PAGES = 6
