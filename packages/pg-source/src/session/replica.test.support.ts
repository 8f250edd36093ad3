import {
  assert,
  ChangeOp,
  formatTableName,
  valueAt,
  type ChangeBatch,
  type ColumnBatch,
  type Lsn,
  type SourceEvent,
  type TableSchema,
  type Value,
} from '@moonlink/core'

/** A row as text by column name; null for SQL null. Fit for integers, text and booleans. */
export type TextRow = Readonly<Record<string, string | null>>

/** A plain copy of tables, fed with source events row by row: what the mirror must come to. */
export class Replica {
  /** Rows of each table, one entry per row, in no order. */
  readonly tables = new Map<string, TextRow[]>()
  /** Rows that the stream named as old and that are not there. */
  readonly missing: string[] = []
  readonly otherEvents: SourceEvent[] = []
  /** The shapes that tables have, of which a change of shape can be followed. */
  readonly schemas = new Map<string, TableSchema>()
  appliedLsn: Lsn = 0n
  watermarkLsn: Lsn = 0n
  transactions = 0
  batches = 0

  rowsOf(name: string): TextRow[] {
    let rows = this.tables.get(name)
    if (!rows) this.tables.set(name, (rows = []))
    return rows
  }

  addCopied(name: string, batch: ColumnBatch): void {
    const rows = this.rowsOf(name)
    for (let row = 0; row < batch.length; row++) rows.push(textRow(batch, row))
  }

  /** Applies an event; changes of transactions that end at or before `skipThrough` are left out. */
  apply(event: SourceEvent, skipThrough: Lsn = 0n): void {
    if (event.kind === 'batch') this.applyBatch(event.batch, skipThrough)
    else if (event.kind === 'watermark') {
      assert(event.lsn >= this.watermarkLsn, 'watermarks do not go back')
      this.watermarkLsn = event.lsn
    } else if (event.kind === 'truncate') for (const table of event.tables) this.tables.set(formatTableName(table), [])
    else if (event.kind === 'schema') this.reshape(formatTableName(event.table), event.shape.schema)
    else this.otherEvents.push(event)
  }

  /** Rows that are there have the values that they had under the same field id, or the initial default. */
  private reshape(name: string, schema: TableSchema): void {
    const before = this.schemas.get(name)
    this.schemas.set(name, schema)
    if (before === undefined) return
    const cell = (row: TextRow, id: number, missing: Value) => {
      const known = before.fields.find((field) => field.id === id)
      return known === undefined ? toText(missing) : (row[known.name] ?? null)
    }
    const rows = this.rowsOf(name).map((row) =>
      Object.fromEntries(schema.fields.map(({ id, initialDefault = null, name: column }) => [column, cell(row, id, initialDefault)])),
    )
    this.tables.set(name, rows)
  }

  private applyBatch(batch: ChangeBatch, skipThrough: Lsn): void {
    const name = formatTableName(batch.table)
    const { marks } = batch
    this.batches++
    this.transactions += marks.endLsns.length
    let next = 0
    let old = 0
    let mark = 0
    for (let index = 0; index < batch.ops.length; index++) {
      while (mark < marks.endLsns.length && marks.changeCounts[mark] <= index) mark++
      const op = batch.ops[index]
      const takesOld = op === ChangeOp.delete || op === ChangeOp.updateOld
      const newRow = op === ChangeOp.delete ? null : this.newRow(batch, next++)
      const oldRow = takesOld ? textRow(batch.old, old++) : null
      // Without marks yet, the transaction is open, and so ends later than anything that could be skipped.
      const endLsn = marks.endLsns[mark]
      if (endLsn !== undefined && endLsn <= skipThrough) continue
      if (op === ChangeOp.insert) this.rowsOf(name).push(newRow!.row)
      else this.replace(name, oldRow ?? keyOf(batch, newRow!.row), newRow)
    }
    for (const lsn of marks.endLsns) {
      assert(lsn >= this.appliedLsn || marks.endLsns.length > 0, 'commits ascend')
      this.appliedLsn = lsn
    }
  }

  private newRow(batch: ChangeBatch, row: number): { row: TextRow; unchanged: string[] } {
    const unchanged = batch.unchanged.filter((cells) => cells.rows.includes(row)).map((cells) => batch.rows.fields[cells.column].name)
    return { row: textRow(batch.rows, row), unchanged }
  }

  private replace(name: string, old: TextRow, next: { row: TextRow; unchanged: string[] } | null): void {
    const rows = this.rowsOf(name)
    const at = rows.findIndex((row) => Object.entries(old).every(([column, value]) => row[column] === value))
    if (at < 0) return void this.missing.push(`${name} ${JSON.stringify(old)}`)
    const before = rows[at]
    if (next === null) rows.splice(at, 1)
    else rows[at] = { ...next.row, ...Object.fromEntries(next.unchanged.map((column) => [column, before[column] ?? null])) }
  }
}

function keyOf(batch: ChangeBatch, row: TextRow): TextRow {
  return Object.fromEntries(batch.old.fields.map((field) => [field.name, row[field.name] ?? null]))
}

function textRow(batch: ColumnBatch, row: number): TextRow {
  return Object.fromEntries(batch.fields.map((field, index) => [field.name, toText(valueAt(batch.columns[index], row))]))
}

function toText(value: Value): string | null {
  return value === null ? null : String(value)
}

/** The rows in an order of their own, for comparison. */
export function sorted(rows: readonly TextRow[]): string[] {
  return rows.map((row) => JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)))).sort()
}
