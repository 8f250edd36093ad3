import { isDeepStrictEqual } from 'node:util'
import type { TableRows, TableState } from './source.ts'
import { shownColumns, type OracleTable } from './tables.ts'

/** Rows of cells as a query gives them, in the form in which the source's rows are kept. */
export function rowTexts(table: OracleTable, rows: Iterable<readonly unknown[]>): TableRows {
  const columns = shownColumns(table)
  return Array.from(rows, (row) =>
    JSON.stringify(columns.map(({ type }, index) => (row[index] === null ? null : type.text(row[index])))),
  ).sort()
}

/** What a reader of a table got. */
export interface Shown {
  readonly names: readonly string[]
  readonly rows: readonly (readonly unknown[])[]
}

/** Throws unless a reader got the columns and rows that the table showed in one of `states`. Nothing is known of one without rows. */
export function expectShown({ names, rows }: Shown, states: readonly TableState[], what: string): void {
  const known = states.flatMap((state) => (state.isUntold ? earlier(state).slice(-1) : [state, ...earlier(state)]))
  if (known.some((state) => state.rows === null)) return
  const namesOf = ({ table }: TableState) => shownColumns(table).map(({ name }) => name)
  const fitting = known.filter((state) => namesOf(state).join('\n') === names.join('\n'))
  if (fitting.length === 0) {
    const expected = known.map(namesOf)
    throw new Error(
      `${what}: columns ${JSON.stringify(names)} where Postgres has ${expected.map((one) => JSON.stringify(one)).join(' or ')}`,
    )
  }
  // A column of the same name may have another type.
  const outcomes = fitting.map(
    ({ rows: expected, table }) =>
      () =>
        expectRows(rowTexts(table, rows), [expected!], what),
  )
  for (const outcome of outcomes.slice(1)) {
    try {
      return outcome()
    } catch {
      // Another may fit.
    }
  }
  outcomes[0]()
}

function earlier({ before }: TableState): TableState[] {
  return before === null ? [] : [before, ...earlier(before)]
}

/** Throws, naming a few of the rows that differ, unless `found` is what the table showed in one of `allowed`. */
export function expectRows(found: TableRows, allowed: readonly TableRows[], what: string): void {
  if (allowed.some((rows) => rows.length === found.length && isDeepStrictEqual(rows, found))) return
  const [expected] = allowed
  const missing = difference(expected, found)
  const extra = difference(found, expected)
  throw new Error(
    `${what}: ${found.length} rows where Postgres has ${expected.length}; ${missing.length} missing ${sample(missing)}, ${extra.length} too many ${sample(extra)}`,
  )
}

/** Of rows that come more than once, as many as `b` lacks. */
function difference(a: TableRows, b: TableRows): string[] {
  const counts = new Map<string, number>()
  for (const row of b) counts.set(row, (counts.get(row) ?? 0) + 1)
  return a.filter((row) => {
    const left = counts.get(row) ?? 0
    counts.set(row, left - 1)
    return left <= 0
  })
}

function sample(rows: readonly string[]): string {
  const shown = rows.slice(0, 3).map((row) => (row.length > 600 ? `${row.slice(0, 600)}…` : row))
  return `[${shown.join(' | ')}]`
}
