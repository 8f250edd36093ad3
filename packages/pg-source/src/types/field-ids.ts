/** Columns have their attribute numbers, which end at 1600; what a column is made of has numbers derived from that. */
const ELEMENT_BASE = 2000
const TEXT_BASE = 4000
const NESTED_FACTOR = 10_000
/** Behind all of these: for columns that can't have the number that their attribute number gives them. */
const LATER_BASE = 20_000_000

/** Field ids that can't be derived, by path: `3` for a column, `3:2` for attribute 2 of the composite in it. */
export type FieldIdMap = Readonly<Record<string, number>>

/**
 * The field ids of a table, for its whole life: what had one keeps it, and none is given twice. Ids follow attribute numbers; those of parts of
 * types, and of columns that took another's place (a type that old values are none of, a table made again under its name), are kept in a map.
 */
export class FieldIds {
  private readonly ids: Map<string, number>

  /** `known`: what an earlier `toMap` gave. */
  constructor(known: FieldIdMap = {}) {
    this.ids = new Map(Object.entries(known))
  }

  /** Of a column by its attribute number. */
  of(column: number): ColumnFieldIds {
    return {
      column: this.ids.get(`${column}`) ?? column,
      element: () => this.fixed(column, 'element', ELEMENT_BASE + column),
      text: () => this.fixed(column, 'text', TEXT_BASE + column),
      nested: (path) => this.nested(column, path),
    }
  }

  /** The column is another one from here on: it, and all it is made of, gets ids that nothing had. */
  renew(column: number): void {
    const id = this.nextLater()
    for (const path of this.ids.keys()) if (path.startsWith(`${column}:`)) this.ids.delete(path)
    this.ids.set(`${column}`, id)
    // What was given stays given.
    this.ids.set(LAST, Math.max(id, this.ids.get(LAST) ?? 0))
  }

  toMap(): FieldIdMap {
    return Object.fromEntries(this.ids)
  }

  private fixed(column: number, part: string, derived: number): number {
    if (!this.ids.has(`${column}`)) return derived
    return this.remembered(`${column}:${part}`, () => this.nextLater())
  }

  private nested(column: number, path: string): number {
    return this.remembered(`${column}:${path}`, () => {
      const first = NESTED_FACTOR * column
      if (this.ids.has(`${column}`)) return this.nextLater()
      const given = [...this.ids.entries()].filter(([known, id]) => known.startsWith(`${column}:`) && id < first + NESTED_FACTOR)
      const next = given.reduce((last, [, id]) => Math.max(last, id), first) + 1
      return next < first + NESTED_FACTOR ? next : this.nextLater()
    })
  }

  private remembered(path: string, give: () => number): number {
    const known = this.ids.get(path)
    if (known !== undefined) return known
    const id = give()
    this.ids.set(path, id)
    return id
  }

  private nextLater(): number {
    let last = LATER_BASE
    for (const id of this.ids.values()) last = Math.max(last, id)
    return last + 1
  }
}

/** In the map: the last id behind the derived ones that was given, be it to something that is gone. */
const LAST = 'last'

/** The ids of one column and of what it is made of. */
export interface ColumnFieldIds {
  readonly column: number
  /** Of the elements of the column's own list. */
  readonly element: () => number
  /** Of the column that holds as text what does not fit. */
  readonly text: () => number
  /** Of anything deeper, by where it lies in the type. */
  readonly nested: (path: string) => number
}
