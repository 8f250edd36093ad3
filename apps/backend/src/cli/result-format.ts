import { stringifyJsonLossless, type JsonValue } from '@moonlink/core'
import { clip, textTable, widthLimit } from './text-table.ts'
import { visible, visibleJson } from '../visible.ts'

export type ResultFormat = 'table' | 'json' | 'csv'

export interface ResultColumn {
  readonly name: string
  readonly type: string
}

/** Prints a result as it arrives: `begin` once, `row` for each, `end` once; each returns the text that is ready. */
export interface ResultPrinter {
  begin(columns: readonly ResultColumn[]): string
  row(cells: readonly JsonValue[]): string
  end(): string
}

/** `room`, in terminal columns, is what a table's lines have: wide cells of text are cut to it. */
export function resultPrinter(format: ResultFormat, room = Number.POSITIVE_INFINITY): ResultPrinter {
  return format === 'json' ? jsonPrinter() : format === 'csv' ? csvPrinter() : tablePrinter(room)
}

/** An array with an object for each row. A name that several columns have is told apart by a number, as DuckDB does: `a`, `a_1`. */
function jsonPrinter(): ResultPrinter {
  let names: string[] = []
  let first = true
  return {
    begin: (columns) => {
      names = distinctNames(columns.map((column) => column.name)).map((name) => JSON.stringify(name))
      return '['
    },
    row: (cells) => {
      const object = `{${cells.map((cell, index) => `${names[index]}:${stringifyJsonLossless(cell)}`).join(',')}}`
      const text = `${first ? '\n' : ',\n'}${object}`
      first = false
      return visibleJson(text)
    },
    end: () => (first ? ']\n' : '\n]\n'),
  }
}

function distinctNames(names: readonly string[]): string[] {
  const taken = new Set(names)
  const seen = new Set<string>()
  return names.map((name) => {
    let distinct = name
    for (let number = 1; seen.has(distinct) || (distinct !== name && taken.has(distinct)); number++) distinct = `${name}_${number}`
    seen.add(distinct)
    return distinct
  })
}

/** A cell as plain text. Null for SQL's NULL. */
function cellText(cell: JsonValue): string | null {
  return cell === null || typeof cell === 'string' ? cell : stringifyJsonLossless(cell)
}

/** RFC 4180 with LF; a NULL is empty, an empty text is "". */
function csvPrinter(): ResultPrinter {
  const line = (cells: readonly (string | null)[]) => `${cells.map(csvCell).join(',')}\n`
  return {
    begin: (columns) => line(columns.map((column) => column.name)),
    row: (cells) => line(cells.map(cellText)),
    end: () => '',
  }
}

function csvCell(cell: string | null): string {
  if (cell === null) return ''
  return cell === '' || /[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell
}

const numericType = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL|INT|LONG)\b/i

/** Aligned columns. Widths need every row, so a table is printed at its end. */
function tablePrinter(room: number): ResultPrinter {
  let columns: readonly ResultColumn[] = []
  const rows: string[][] = []
  /** What EXPLAIN answers are drawings of many lines, and no table. */
  const plans: string[] = []
  return {
    begin: (given) => {
      columns = given
      return ''
    },
    row: (cells) => {
      if (columns.length === 2 && columns[1].name === 'explain_value')
        plans.push(`${(cellText(cells[1]) ?? '').split('\n').map(visible).join('\n').trimEnd()}\n`)
      rows.push(cells.map((cell) => visible(cellText(cell) ?? '∅')))
      return ''
    },
    end: () => {
      if (columns.length === 2 && columns[1].name === 'explain_value') return plans.join('')
      const right = new Set(columns.flatMap((column, index) => (numericType.test(column.type) ? [index] : [])))
      const names = columns.map((column) => visible(column.name))
      const limit = widthLimit([names, ...rows], right, room)
      const clipped = (cells: readonly string[]) => cells.map((cell, column) => (right.has(column) ? cell : clip(cell, limit)))
      const lines = textTable(clipped(names), rows.map(clipped), right)
      const cut = limit === Number.POSITIVE_INFINITY ? '' : '; cells that end in … are cut to fit, --format csv or json has them whole'
      return `${lines.join('\n')}\n(${rows.length} ${rows.length === 1 ? 'row' : 'rows'}${cut})\n`
    },
  }
}
