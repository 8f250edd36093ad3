import {
  appendValue,
  BatchBuilder,
  ChangeOp,
  conformBatch,
  formatType,
  valueAt,
  type ChangeBatch,
  type Lsn,
  type SourceEvent,
  type TableName,
  type TableSchema,
  type Value,
} from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { deadRows, type TablePlan } from '@moonlink/union-read'

export type Row = readonly Value[]

/** A source table as a plain model: its rows now and at every transaction's end, and the change batch that says how it got there. */
export class ScriptedTable {
  readonly table: TableName
  schema: TableSchema
  rows: Row[] = []
  /** Rows and schema at each end LSN, ascending. */
  readonly history: { lsn: Lsn; rows: readonly Row[]; schema: TableSchema; sourceState: string }[]
  /** Names the present shape to whoever keeps it. */
  sourceState = 'shape 0'
  private shapeCount = 0
  private events: SourceEvent[] = []
  private batch!: {
    ops: number[]
    rows: BatchBuilder
    old: BatchBuilder
    unchanged: Map<number, number[]>
    endLsns: Lsn[]
    counts: number[]
  }

  constructor(schema: TableSchema, name = 't') {
    this.table = { schema: 'public', name }
    this.schema = schema
    this.history = [{ lsn: 0n, rows: [], schema, sourceState: this.sourceState }]
    this.startBatch()
  }

  private get sendsWholeOldRows(): boolean {
    return this.schema.identifierFieldIds.length === 0
  }

  /** Within the open transaction: from here on rows have this schema; `convert` gives what the rows so far are in it. */
  reshape(schema: TableSchema, convert: (row: Row) => Row): void {
    this.endBatch()
    this.schema = schema
    this.rows = this.rows.map(convert)
    this.sourceState = `shape ${++this.shapeCount}`
    this.events.push({ kind: 'schema', table: this.table, shape: { schema, sourceState: this.sourceState } })
    this.startBatch()
  }

  insert(row: Row): void {
    this.rows.push(row)
    this.batch.ops.push(ChangeOp.insert)
    this.appendRow(row, [])
  }

  /** Replaces row `index`; columns in `unchanged` are not sent and keep their value. */
  update(index: number, row: Row, notSent: readonly number[] = []): void {
    const unchanged = this.sendsWholeOldRows ? [] : notSent
    const before = this.rows[index]
    const after = row.map((value, column) => (notSent.includes(column) ? before[column]! : value))
    const sameKey = !this.sendsWholeOldRows && this.keyText(before) === this.keyText(after)
    this.batch.ops.push(sameKey ? ChangeOp.update : ChangeOp.updateOld)
    if (!sameKey) this.appendOld(before)
    this.appendRow(after, unchanged)
    this.rows = this.rows.with(index, after)
  }

  delete(index: number): void {
    this.batch.ops.push(ChangeOp.delete)
    this.appendOld(this.rows[index])
    this.rows = this.rows.toSpliced(index, 1)
  }

  /** Takes all rows away, within the open transaction. */
  truncate(): void {
    this.rows = []
    this.endBatch()
    this.events.push({ kind: 'truncate', tables: [this.table] })
  }

  endTransaction(lsn: Lsn): void {
    this.batch.endLsns.push(lsn)
    this.batch.counts.push(this.batch.ops.length)
    this.history.push({ lsn, rows: [...this.rows], schema: this.schema, sourceState: this.sourceState })
  }

  /** What happened since the last take. */
  take(): SourceEvent[] {
    this.endBatch()
    const { events } = this
    this.events = []
    return events
  }

  private endBatch(): void {
    const { ops, endLsns } = this.batch
    if (ops.length > 0 || endLsns.length > 0) this.events.push({ kind: 'batch', batch: this.takeBatch() })
  }

  private takeBatch(): ChangeBatch {
    const { ops, rows, old, unchanged, endLsns, counts } = this.batch
    const batch: ChangeBatch = {
      table: this.table,
      ops: Uint8Array.from(ops),
      rows: rows.view(),
      old: old.view(),
      unchanged: [...unchanged].map(([column, at]) => ({ column, rows: Uint32Array.from(at) })),
      marks: { endLsns, changeCounts: counts, commitTimesMs: endLsns.map(() => 0) },
    }
    this.startBatch()
    return batch
  }

  /** What a reader sees: the columns, then the rows, sorted. */
  contentAt(lsn: Lsn): string[] {
    const { rows, schema } = this.history.findLast((candidate) => candidate.lsn <= lsn)!
    return [columnsText(schema), ...rows.map(rowText).sort()]
  }

  keyText(row: Row): string {
    return rowText(this.schema.identifierFieldIds.map((id) => row[this.schema.fields.findIndex((field) => field.id === id)]!))
  }

  private startBatch(): void {
    const oldFields = this.sendsWholeOldRows
      ? this.schema.fields
      : this.schema.identifierFieldIds.map((id) => this.schema.fields.find((field) => field.id === id)!)
    this.batch = {
      ops: [],
      rows: new BatchBuilder(this.schema.fields),
      old: new BatchBuilder(oldFields),
      unchanged: new Map(),
      endLsns: [],
      counts: [],
    }
  }

  private appendRow(row: Row, unchanged: readonly number[]): void {
    const at = this.batch.rows.length
    row.forEach((value, column) => {
      const isUnchanged = unchanged.includes(column)
      appendValue(this.batch.rows.builders[column], isUnchanged ? null : value)
      if (!isUnchanged) return
      if (!this.batch.unchanged.has(column)) this.batch.unchanged.set(column, [])
      this.batch.unchanged.get(column)!.push(at)
    })
  }

  private appendOld(row: Row): void {
    this.batch.old.fields.forEach((field, index) =>
      appendValue(this.batch.old.builders[index], row[this.schema.fields.findIndex((candidate) => candidate.id === field.id)]),
    )
  }
}

export function rowText(row: Row): string {
  return JSON.stringify(row, (_, value: unknown) =>
    typeof value === 'bigint' ? `${value}n` : value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
  )
}

export function columnsText({ fields }: TableSchema): string {
  return fields.map(({ name, type }) => `${name} ${formatType(type)}`).join(', ')
}

/** What a reader of the plan sees, as `contentAt` has it. */
export function readContent(plan: TablePlan, storage: MemoryTableStorage): string[] {
  return [columnsText(plan.schema), ...readPlan(plan, storage)]
}

/** The rows that a reader of the plan sees, as sorted texts: every row once, dead ones left out. */
export function readPlan(plan: TablePlan, storage: MemoryTableStorage): string[] {
  const texts: string[] = []
  const parts = [
    ...plan.files.map((file) => ({
      segment: file.segment,
      rows: storage.rowsOf(file.path),
      rowCount: file.recordCount,
      hasDeletes: file.hasDeletes,
    })),
    ...plan.memory,
  ]
  for (const part of parts) {
    const dead = new Set(deadRows(plan, part.segment))
    if (!part.hasDeletes && dead.size > 0) throw new Error(`segment ${part.segment} has dead rows but says it has none`)
    const { columns } = conformBatch(part.rows, plan.schema.fields)
    for (let row = 0; row < part.rowCount; row++) if (!dead.has(row)) texts.push(rowText(columns.map((column) => valueAt(column, row))))
  }
  return texts.sort()
}
