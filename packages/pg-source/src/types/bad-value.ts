import { MoonlinkError } from '@moonlink/core'

interface Place {
  readonly table?: string
  readonly column?: string
  readonly key?: string
}

type Instead = 'text or null' | 'null'

/**
 * A well-formed Postgres value that the mirrored column's Iceberg type cannot hold (numeric NaN, an infinite date, a
 * multi-dimensional array …). Kind `invalid`, code `VALUE_UNREPRESENTABLE`. Thrown by a value decoder before it has completed a
 * value; the caller, who knows the row, catches it and undoes the row.
 */
export class BadValueError extends MoonlinkError {
  /** The value as text, shortened. */
  readonly value: string
  /** Why it cannot be held, as a clause: `which decimal(10, 2) cannot hold`. */
  readonly problem: string

  private readonly instead: Instead

  /** `instead`: what a policy can have in its place. */
  constructor(value: string, problem: string, place: Place = {}, instead: Instead = 'text or null') {
    const where = place.table === undefined ? '' : `${place.table}: `
    const what = place.column === undefined ? 'a value is' : `column "${place.column}" holds`
    const row = place.key ? ` in the row with ${place.key}` : ''
    const remedy = place.column === undefined ? '' : `. ${remedyOf(place.table ?? '', place.column, instead)}`
    super('invalid', 'VALUE_UNREPRESENTABLE', `${where}${what} ${value}${row}, ${problem}${remedy}`, { context: { value, ...place } })
    this.name = 'BadValueError'
    this.value = value
    this.problem = problem
    this.instead = instead
  }

  /** The same complaint, naming the place. */
  at(table: string, column: string, key: string | null): BadValueError {
    return new BadValueError(this.value, this.problem, key === null ? { table, column } : { table, column, key }, this.instead)
  }
}

function remedyOf(table: string, column: string, instead: Instead): string {
  const ways =
    instead === 'null'
      ? `have null for such values with source.columns: {${table}: {${column}: {onUnfit: 'null'}}}, or leave the column out with source.excludeColumns: {${table}: [${column}]}`
      : `choose what becomes of such values with source.columns: {${table}: {${column}: {onUnfit: text}}} (or null), or map the column as string`
  return `Change the value; or ${ways}, and start again; then moonlink tables resume ${table} goes on`
}

const SHOWN_BYTES = 60

/** Bytes as text for a message, shortened. */
export function shownText(source: Uint8Array, start: number, end: number): string {
  const text = new TextDecoder().decode(source.subarray(start, Math.min(end, start + SHOWN_BYTES)))
  return end - start > SHOWN_BYTES ? `${text}…` : text
}
