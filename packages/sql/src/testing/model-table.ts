import { join } from 'node:path'
import {
  appendValue,
  assert,
  BatchBuilder,
  type Field,
  type FileObject,
  type LocalFileSets,
  type Lsn,
  type PinnedFile,
  type TableName,
  type Value,
} from '@moonlink/core'
import type { DuckDBConnection } from '@duckdb/node-api'
import type { AcquireRequest, ReadLease, ReadLeaseSource, TablePlan } from '@moonlink/union-read'
import { CHUNK_ROWS, ChunkWriter } from '../chunk-writer.ts'
import { duckdbType, quoteName, quoteText } from '../sql-text.ts'
import { deletesViewOf, type Death, type MovedDeath } from './scripted-deletes.ts'

export type Row = readonly Value[]

interface DatedDeath extends Death {
  readonly lsn: Lsn
}

interface MemorySegment {
  readonly kind: 'memory'
  readonly id: number
  readonly builder: BatchBuilder
  readonly rows: { readonly row: Row; readonly lsn: Lsn }[]
}

interface FileSegment {
  readonly kind: 'file'
  readonly id: number
  readonly path: string
  readonly rows: readonly Row[]
  readonly moved: readonly MovedDeath[]
}

/**
 * A table as plain JavaScript arrays: rows in memory segments and files, deaths in a log with its sequence numbers. It plans reads
 * as the table engine does, and says naively which rows a plan shows.
 */
export class ModelTable {
  readonly table: TableName
  fields: readonly Field[]
  incarnation: string
  lsn: Lsn = 1n
  /** LSNs below are folded away. */
  floor: Lsn = 1n
  private readonly directory: string
  private readonly connection: DuckDBConnection
  private readonly segments = new Map<number, MemorySegment | FileSegment>()
  private readonly log: DatedDeath[] = []
  private firstSeq = 0
  private lastSegment = 0
  private openSegment: MemorySegment | null = null
  /** The columns that a row was made with. */
  private readonly shapes = new WeakMap<Row, readonly Field[]>()

  constructor(
    table: TableName,
    fields: readonly Field[],
    directory: string,
    connection: DuckDBConnection,
    incarnation = `${table.name}-1`,
  ) {
    this.table = table
    this.fields = fields
    this.directory = directory
    this.connection = connection
    this.incarnation = incarnation
  }

  get name(): string {
    return `${this.table.schema}.${this.table.name}`
  }

  insert(rows: readonly Row[]): void {
    this.lsn++
    this.openSegment ??= this.newMemorySegment()
    const { builder, rows: kept } = this.openSegment
    for (const row of rows) {
      row.forEach((value, index) => appendValue(builder.builders[index], value))
      this.shapes.set(row, this.fields)
      kept.push({ row, lsn: this.lsn })
    }
  }

  /** Kills the live rows that `picks`. */
  remove(picks: (row: Row) => boolean): number {
    this.lsn++
    const dead = this.deadAt(this.lsn)
    let count = 0
    for (const segment of this.segments.values()) {
      segment.rows.forEach((kept, row) => {
        if (dead.has(`${segment.id}/${row}`) || !picks(segment.kind === 'memory' ? (kept as { row: Row }).row : (kept as Row))) return
        this.log.push({ segment: segment.id, row, lsn: this.lsn })
        count++
      })
    }
    return count
  }

  /** From here on the table has these columns. LSNs below now can't be planned any more. */
  alter(fields: readonly Field[]): void {
    this.freeze()
    this.lsn++
    this.floor = this.lsn
    this.fields = fields
  }

  /** Later rows go to a new memory segment. */
  freeze(): void {
    this.openSegment = null
  }

  /** Writes all rows in memory that live at `asOf` as one file; deaths after it move along. LSNs below now can't be planned any more. */
  async flush(asOf: Lsn = this.lsn): Promise<void> {
    this.freeze()
    const dead = this.deadAt(asOf)
    const rows: Row[] = []
    const newRow = new Map<string, number>()
    for (const segment of this.segments.values()) {
      if (segment.kind === 'file') continue
      segment.rows.forEach(({ row }, index) => {
        if (dead.has(`${segment.id}/${index}`)) return
        newRow.set(`${segment.id}/${index}`, rows.length)
        rows.push(this.conformed(row))
      })
    }
    const moved: MovedDeath[] = []
    this.log.forEach(({ segment, row }, seq) => {
      const to = newRow.get(`${segment}/${row}`)
      if (to !== undefined) moved.push({ row: to, seq })
    })
    const file = await this.addFile(rows, moved)
    for (const segment of this.segments.values()) if (segment.kind === 'memory' && segment.id !== file) this.segments.delete(segment.id)
    this.firstSeq = this.endSeqAt(asOf)
    this.floor = this.lsn
  }

  /** Adds a data file with these rows, all of them visible at once; returns its segment. */
  async addFile(rows: readonly Row[], moved: FileSegment['moved'] = [], fields: readonly Field[] = this.fields): Promise<number> {
    const id = ++this.lastSegment
    const path = join(this.directory, `${this.incarnation}-${id}.parquet`)
    await writeParquet(this.connection, fields, rows, path)
    for (const row of rows) this.shapes.set(row, fields)
    this.segments.set(id, { kind: 'file', id, path, rows, moved })
    return id
  }

  /** The rows that a read at `lsn` shows, in no particular order, in the present columns. */
  expected(lsn: Lsn): Row[] {
    const dead = this.deadAt(lsn)
    const rows: Row[] = []
    for (const segment of this.segments.values()) {
      segment.rows.forEach((kept, row) => {
        if (dead.has(`${segment.id}/${row}`)) return
        if (segment.kind === 'file') rows.push(kept as Row)
        else if ((kept as { lsn: Lsn }).lsn <= lsn) rows.push((kept as { row: Row }).row)
      })
    }
    return rows.map((row) => this.conformed(row))
  }

  plan(lsn: Lsn): TablePlan {
    assert(lsn >= this.floor && lsn <= this.lsn, 'the LSN is held')
    const endSeq = this.endSeqAt(lsn)
    const dead = new Set([...this.deadAt(lsn)].map((place) => Number(place.split('/')[0])))
    const segments = [...this.segments.values()]
    const moved = segments.flatMap((segment) => (segment.kind === 'file' ? [[segment.id, segment.moved] as const] : []))
    return {
      table: this.table,
      schema: { fields: this.fields, identifierFieldIds: [] },
      lsn,
      incarnation: this.incarnation,
      files: segments
        .filter((segment) => segment.kind === 'file')
        .map((segment) => ({
          segment: segment.id,
          path: segment.path,
          sizeBytes: 1,
          recordCount: segment.rows.length,
          hasDeletes: dead.has(segment.id),
        })),
      memory: segments
        .filter((segment) => segment.kind === 'memory')
        .map((segment) => ({
          segment: segment.id,
          rows: segment.builder.view(),
          rowCount: segment.rows.filter((kept) => kept.lsn <= lsn).length,
          hasDeletes: dead.has(segment.id),
        })),
      deletes: deletesViewOf(this.log.slice(0, endSeq), this.firstSeq, endSeq, new Map(moved)),
    }
  }

  private conformed(row: Row): Row {
    const shape = this.shapes.get(row)!
    if (shape === this.fields) return row
    return this.fields.map(({ id, type, initialDefault }) => {
      const at = shape.findIndex((field) => field.id === id)
      const value = at < 0 ? (initialDefault ?? null) : row[at]
      return type.kind === 'long' && typeof value === 'number' ? BigInt(value) : value
    })
  }

  private newMemorySegment(): MemorySegment {
    const id = ++this.lastSegment
    const segment: MemorySegment = { kind: 'memory', id, builder: new BatchBuilder(this.fields), rows: [] }
    this.segments.set(id, segment)
    return segment
  }

  private endSeqAt(lsn: Lsn): number {
    const first = this.log.findIndex((death) => death.lsn > lsn)
    return first < 0 ? this.log.length : first
  }

  private deadAt(lsn: Lsn): Set<string> {
    const endSeq = this.endSeqAt(lsn)
    const dead = new Set(this.log.slice(0, endSeq).map(({ segment, row }) => `${segment}/${row}`))
    for (const segment of this.segments.values()) {
      if (segment.kind !== 'file') continue
      for (const { row, seq } of segment.moved) if (seq < endSeq) dead.add(`${segment.id}/${row}`)
    }
    return dead
  }
}

/** Leases over model tables. Counts what is held. */
export class ModelLeases implements ReadLeaseSource {
  readonly tables: ModelTable[] = []
  /** Plans, by their tables' names, to hand out for an LSN instead of new ones. */
  readonly prepared = new Map<Lsn, ReadonlyMap<string, TablePlan>>()
  held = 0
  acquired = 0

  readableTables(): readonly string[] {
    return this.tables.map((table) => table.name)
  }

  acquire({ tables, lsn }: AcquireRequest): Promise<ReadLease> {
    const chosen = tables.map((name) => this.tables.find((table) => table.name === name)!)
    const at = lsn ?? chosen.reduce((low, table) => (table.lsn < low ? table.lsn : low), chosen[0].lsn)
    this.held++
    this.acquired++
    let released = false
    return Promise.resolve({
      lsn: at,
      tables: new Map(chosen.map((table) => [table.name, this.prepared.get(at)?.get(table.name) ?? table.plan(at)])),
      release: () => {
        if (!released) this.held--
        released = true
      },
    })
  }
}

/** Files that are where their URI says, so many of them at once. Counts what is pinned. */
export class PathFiles implements LocalFileSets {
  pinned = 0
  mostPinned = 0
  /** Files at once. */
  limit = Number.POSITIVE_INFINITY
  /** Pinned so far. */
  readonly paths: string[] = []

  drop(): Promise<boolean> {
    return Promise.resolve(false)
  }

  pin(uri: string): Promise<PinnedFile> {
    this.pinned++
    this.mostPinned = Math.max(this.mostPinned, this.pinned)
    this.paths.push(uri)
    return Promise.resolve({ path: uri, release: () => void this.pinned-- })
  }

  pinAll(files: readonly FileObject[]): Promise<readonly PinnedFile[]> {
    assert(files.length <= this.limit, 'so many are pinned at once')
    return Promise.all(files.map(({ uri }) => this.pin(uri)))
  }

  batches<T extends FileObject>(files: readonly T[]): readonly (readonly T[])[] {
    return files.length <= this.limit ? [files] : files.map((file) => [file])
  }
}

export async function writeParquet(
  connection: DuckDBConnection,
  fields: readonly Field[],
  rows: readonly Row[],
  path: string,
): Promise<void> {
  const table = quoteName(`write ${path}`)
  await connection.run(`CREATE TABLE ${table} (${fields.map((field, index) => `w${index} ${duckdbType(field.type)}`).join(', ')})`)
  await fillTable(connection, `write ${path}`, fields, rows)
  // DuckDB's names do not differ by case, so columns that do are written under others and found by their id.
  const unique = new Set(fields.map((field) => field.name.toLowerCase())).size === fields.length
  const names = fields.map((field, index) => (unique ? field.name : `w${index}`))
  const columns = fields.map((_, index) => `w${index} AS ${quoteName(names[index])}`).join(', ')
  const ids = fields.map((field, index) => `${quoteName(names[index])}: ${fieldIds(field)}`).join(', ')
  await connection.run(`COPY (SELECT ${columns} FROM ${table}) TO ${quoteText(path)} (FORMAT parquet, FIELD_IDS {${ids}})`)
  await connection.run(`DROP TABLE ${table}`)
}

/** Appends the rows to a native table of those columns. */
export async function fillTable(
  connection: DuckDBConnection,
  table: string,
  fields: readonly Field[],
  rows: readonly Row[],
  schema?: string,
): Promise<void> {
  const builder = new BatchBuilder(fields)
  for (const row of rows) row.forEach((value, index) => appendValue(builder.builders[index], value))
  const appender = await connection.createAppender(table, schema)
  const writer = new ChunkWriter(fields.map((field) => field.type))
  for (let from = 0; from < rows.length; from += CHUNK_ROWS) {
    writer.write(builder.view().columns, from, Math.min(CHUNK_ROWS, rows.length - from))
    appender.appendDataChunk(writer.chunk)
  }
  appender.closeSync()
}

function fieldIds({ id, type }: Field): string {
  if (type.kind === 'struct') return `{__duckdb_field_id: ${id}, ${partIds(type.fields)}}`
  if (type.kind !== 'list') return String(id)
  // The lists of a table may share a type, but not the ids of their elements.
  return `{__duckdb_field_id: ${id}, element: ${fieldIds({ id: type.elementId + id, name: 'element', type: type.element, required: false })}}`
}

function partIds(fields: readonly Field[]): string {
  return fields.map((field) => `${quoteName(field.name)}: ${fieldIds(field)}`).join(', ')
}
