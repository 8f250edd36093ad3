import {
  appendValue,
  assert,
  BatchBuilder,
  ChangeOp,
  formatTableName,
  maxLsn,
  type ChangeBatch,
  type ChangeSource,
  type ChangeStream,
  type ColumnBatch,
  type CopyRange,
  type Lsn,
  type SourceEvent,
  type SourceTable,
  type TableCopy,
  type TableName,
  type TableSchema,
  type TakeCopied,
} from '@moonlink/core'
import { nextTurn } from './sim-clock.ts'

export interface SimRow {
  readonly id: number
  readonly text: string | null
}

/** A change in the order of its transaction; `old` is the row replaced or deleted. */
export interface SimChange {
  readonly table: string
  readonly kind: 'insert' | 'update' | 'delete'
  readonly old: SimRow | null
  readonly row: SimRow | null
}

interface SimTransaction {
  readonly endLsn: Lsn
  readonly changes: readonly SimChange[]
}

export const simTables: Readonly<Record<string, TableSchema>> = {
  'sim.keyed': schemaOf([1]),
  'sim.bag': schemaOf([]),
}

function schemaOf(identifierFieldIds: readonly number[]): TableSchema {
  const fields = [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'text', type: { kind: 'string' }, required: false },
  ] as const
  return { fields, identifierFieldIds }
}

export function tableNameOf(name: string): TableName {
  const [schema, table] = name.split('.') as [string, string]
  return { schema, name: table }
}

const PAGES = 6
/** Of two pages, the last without an end. */
const PAGE_RANGES: readonly CopyRange[] = [
  { from: 0, to: 2 },
  { from: 2, to: 4 },
  { from: 4, to: null },
]

type Finished = (range: CopyRange) => Promise<void>

const isIn = ({ from, to }: CopyRange, page: number) => from <= page && (to === null || page < to)

export const rowText = ({ id, text }: SimRow) => `${id} ${text ?? 'NULL'}`

/** A database in memory, with a slot: it keeps transactions until they are acknowledged, and no longer. */
export class SimSource implements ChangeSource {
  readonly rows = new Map<string, SimRow[]>(Object.keys(simTables).map((name) => [name, []]))
  private readonly transactions: SimTransaction[] = []
  private readonly states: { readonly lsn: Lsn; readonly rows: ReadonlyMap<string, readonly SimRow[]> }[] = []
  /** Where a row lies, and since when. */
  private readonly places = new WeakMap<SimRow, { readonly page: number; readonly lsn: Lsn }>()
  private placed = 0
  private end: Lsn = 1000n
  /** What the slot has let go of. */
  forgotten: Lsn = 1000n

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

  commit(changes: readonly SimChange[]): void {
    this.end += BigInt(10 + changes.length)
    for (const change of changes) this.apply(change)
    this.transactions.push({ endLsn: this.end, changes })
    this.remember()
  }

  /** The table's rows as texts, sorted, at an LSN. */
  at(table: string, lsn: Lsn): string[] {
    const state = this.states.findLast((candidate) => candidate.lsn <= lsn)
    assert(state !== undefined, 'the LSN is not before the first')
    return state.rows.get(table)!.map(rowText).sort()
  }

  async currentLsn(): Promise<Lsn> {
    return this.end
  }

  async open(after: Lsn, signal: AbortSignal): Promise<ChangeStream> {
    // As Postgres does: from what the slot has let go of on, whatever was asked for.
    return new SimStream(this, maxLsn(after, this.forgotten), signal)
  }

  async copy(): Promise<TableCopy> {
    const boundaryLsn = this.end
    const rows = new Map([...this.rows].map(([name, list]) => [name, [...list]]))
    const read = async (table: TableName, ranges: readonly CopyRange[], from: Lsn, take: TakeCopied, finished?: Finished) => {
      const name = formatTableName(table)
      for (const range of ranges) {
        await nextTurn()
        const found = rows.get(name)!.filter((row) => isIn(range, this.places.get(row)!.page) && this.places.get(row)!.lsn > from)
        if (found.length > 0) await take(batchOf(simTables[name], found), range)
        await finished?.(range)
      }
    }
    return {
      boundaryLsn,
      table: () => ({ estimatedRows: null, pages: PAGES, pageBytes: 100, storage: 'sim', horizon: String(boundaryLsn) }),
      read: (table, take, { done = [], finished } = {}) => {
        const left = PAGE_RANGES.filter(({ from }) => !done.some((range) => isIn(range, from)))
        return read(table, left, 0n, take, finished)
      },
      readChanged: (table, ranges, horizon, take) => read(table, ranges, BigInt(horizon), take),
      close: async () => undefined,
    }
  }

  sourceTables(): SourceTable[] {
    return Object.entries(simTables).map(([name, schema]) => ({ table: tableNameOf(name), schema }))
  }

  after(lsn: Lsn): SimTransaction | undefined {
    return this.transactions.find(({ endLsn }) => endLsn > lsn)
  }

  private apply({ table, kind, old, row }: SimChange): void {
    const rows = this.rows.get(table)!
    if (kind !== 'insert') {
      const at = rows.findIndex((known) => rowText(known) === rowText(old!))
      assert(at >= 0, 'a change names a row that is there')
      rows.splice(at, 1)
    }
    if (row === null) return
    rows.push(row)
    // Anywhere, as a page with room may be: a row that is updated moves.
    this.placed = (this.placed * 5 + 3) % 16
    this.places.set(row, { page: this.placed % PAGES, lsn: this.end })
  }

  private remember(): void {
    this.states.push({ lsn: this.end, rows: new Map([...this.rows].map(([name, list]) => [name, [...list]])) })
  }
}

class SimStream implements ChangeStream {
  private readonly source: SimSource
  private readonly signal: AbortSignal
  private position: Lsn
  /** The last position that was told. */
  private told: Lsn | null = null
  private isClosed = false

  constructor(source: SimSource, after: Lsn, signal: AbortSignal) {
    this.source = source
    this.position = after
    this.signal = signal
  }

  get sourceLsn(): Lsn {
    return this.source.endLsn
  }

  acknowledge(durable: Lsn): void {
    assert(durable <= this.source.endLsn, 'nothing is acknowledged that was not sent', { durable })
    this.source.forgotten = maxLsn(this.source.forgotten, durable)
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SourceEvent, void, undefined> {
    while (!this.isClosed && !this.signal.aborted) {
      const next = this.source.after(this.position)
      if (next === undefined) {
        await nextTurn()
        // Keepalives say where a source is that has nothing to send; a stream that begins at its end hears nothing else.
        const { endLsn } = this.source
        if (this.source.after(this.position) !== undefined || this.told === endLsn) continue
        this.position = this.told = endLsn
        yield { kind: 'watermark', lsn: endLsn, sourceLsn: endLsn, commitTimeMs: null }
        continue
      }
      for (const [name, schema] of Object.entries(simTables)) {
        const changes = next.changes.filter(({ table }) => table === name)
        if (changes.length === 0) continue
        // In two parts now and then: a batch may end within a transaction.
        const cut = changes.length > 2 ? Math.floor(changes.length / 2) : changes.length
        if (cut < changes.length) yield { kind: 'batch', batch: changeBatch(name, schema, changes.slice(0, cut), null) }
        yield { kind: 'batch', batch: changeBatch(name, schema, cut < changes.length ? changes.slice(cut) : changes, next.endLsn) }
      }
      this.position = this.told = next.endLsn
      yield { kind: 'watermark', lsn: next.endLsn, sourceLsn: this.source.endLsn, commitTimeMs: null }
    }
  }
}

function batchOf(schema: TableSchema, rows: readonly SimRow[]): ColumnBatch {
  const builder = new BatchBuilder(schema.fields)
  for (const row of rows) appendRow(builder, row)
  return builder.view()
}

function appendRow(builder: BatchBuilder, row: SimRow): void {
  for (const [index, field] of builder.fields.entries()) appendValue(builder.builders[index], field.id === 1 ? BigInt(row.id) : row.text)
}

function changeBatch(name: string, schema: TableSchema, changes: readonly SimChange[], endLsn: Lsn | null): ChangeBatch {
  const isKeyless = schema.identifierFieldIds.length === 0
  const rows = new BatchBuilder(schema.fields)
  const old = new BatchBuilder(isKeyless ? schema.fields : [schema.fields[0]])
  const ops = changes.map((change) => {
    if (change.row !== null) appendRow(rows, change.row)
    if (change.kind === 'insert') return ChangeOp.insert
    const isSameKey = !isKeyless && change.row?.id === change.old!.id
    if (change.kind === 'update' && isSameKey) return ChangeOp.update
    appendRow(old, change.old!)
    return change.kind === 'update' ? ChangeOp.updateOld : ChangeOp.delete
  })
  const marks =
    endLsn === null
      ? { endLsns: [], changeCounts: [], commitTimesMs: [] }
      : { endLsns: [endLsn], changeCounts: [ops.length], commitTimesMs: [0] }
  return { table: tableNameOf(name), ops: Uint8Array.from(ops), rows: rows.view(), old: old.view(), unchanged: [], marks }
}
