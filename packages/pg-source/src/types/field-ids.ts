/** Field ids of what a column is made of. Columns have their attribute numbers, which end at 1600. */
const ELEMENT_BASE = 2000
const TEXT_BASE = 4000
const NESTED_FACTOR = 10_000

/** Hands out the nested ids of one column, always the same for the same type. */
export class FieldIds {
  private readonly column: number
  private last = 0

  constructor(column: number) {
    this.column = column
  }

  /** Of the elements of the column's own list. */
  get element(): number {
    return ELEMENT_BASE + this.column
  }

  /** Of the column that holds as text what does not fit. */
  get text(): number {
    return TEXT_BASE + this.column
  }

  /** Of anything deeper, in the order of the type. */
  next(): number {
    return NESTED_FACTOR * this.column + ++this.last
  }
}
