import type { Field, FieldType } from '@moonlink/core'
import type { TablePlan } from '@moonlink/union-read'
import { defaultSql, hasSameParts, shapeOfField, storedSql, storedType, type ColumnShape } from './conform-sql.ts'
import { storedColumn, type FileShape } from './file-shapes.ts'
import { BLOCK_BITS } from './dead-bits.ts'
import type { CacheUse } from './incarnation-cache.ts'
import type { MaskPart } from './live-mask.ts'
import type { GrowingTable } from './reader.ts'
import { duckdbType, quoteName, quoteText } from './sql-text.ts'
import type { Statement } from './statement.ts'
import { columnName } from './tail-table.ts'

/** Up to this many files with dead rows are read one by one, which is faster; more share one scan, which plans faster. */
const MAX_SEPARATE_FILES = 24

/** A file of a plan, ready to read. `path` is local. */
export interface ReadyFile {
  readonly segment: number
  readonly path: string
  readonly recordCount: number
  readonly hasDeletes: boolean
  readonly shape: FileShape
}

/** A plan as the text of a view, and the session variables that the text refers to. */
export interface ViewSql {
  readonly text: string
  /** Numbers that change from plan to plan are variables, so that the text, and with it the view, can stay. */
  readonly variables: ReadonlyMap<string, number>
  /** The native tables it reads that rows are appended to. */
  readonly growing: readonly GrowingTable[]
  readonly fileCount: number
  readonly readsFiles: boolean
}

/**
 * `SELECT` over a plan's files and tails without their dead rows. `database` holds the native tables. With `onlyCounts` it has the
 * right number of rows, and any values.
 */
export function viewSql(
  plan: TablePlan,
  files: readonly ReadyFile[],
  use: CacheUse,
  database: string,
  { asksExtremes, onlyCounts }: Pick<Statement, 'asksExtremes' | 'onlyCounts'>,
): ViewSql {
  const native = (name: string) => `${quoteName(database)}.main.${name}`
  const variables = new Map<string, number>()
  const growing: GrowingTable[] = [...use.tails.values()].map((tail) => ({ name: native(tail.name), rowCount: () => tail.rowCount }))
  const { deletes } = use
  if (deletes) growing.push({ name: native(deletes.name), rowCount: () => deletes.factCount })
  const dead = (): DeadRows => {
    const { name } = use.deletes!
    variables.set(`end_${name}`, plan.deletes.endSeq)
    return { table: native(name), condition: `seq < getvariable('end_${name}')::BIGINT` }
  }
  const { fields } = plan.schema
  const counted = onlyCounts ? files.filter((file) => !file.hasDeletes || use.masks.has(file.segment)) : []
  const read = onlyCounts ? files.filter((file) => !counted.includes(file)) : files
  // Bounds of floats are of zeros with another sign, and are taken for NaN: no value of a row, unlike other bounds.
  const isBoundWrong = asksExtremes && fields.some(({ type }) => hasFloat(type))
  const parts = [...fileParts(read, fields, dead, use, native, isBoundWrong ? NO_BOUNDS : '')]
  if (counted.length > 0) parts.push(rowsOnly(counted, fields, use.masks))
  for (const { segment, rowCount, hasDeletes } of plan.memory) {
    const tail = use.tails.get(segment)!
    variables.set(`rows_${tail.name}`, rowCount)
    const known = new Map(tail.fields.map((field) => [field.id, shapeOfField(field)]))
    const columns = fields.map((field) => cell(columnName(field.id), known.get(field.id) ?? null, field))
    const anti = hasDeletes ? antiJoin(deadOf(segment, dead()), 'f.rowid = d.r') : ''
    parts.push(`SELECT ${columns.join(', ')} FROM ${native(tail.name)} f${anti} WHERE f.rowid < getvariable('rows_${tail.name}')::BIGINT`)
  }
  if (parts.length === 0) parts.push(`SELECT ${fields.map((field) => cell('', null, field)).join(', ')} WHERE false`)
  return { text: parts.join(' UNION ALL '), variables, growing, fileCount: files.length, readsFiles: read.length > 0 }
}

/** As many rows as these files show. */
function rowsOnly(files: readonly ReadyFile[], fields: readonly Field[], masks: CacheUse['masks']): string {
  const count = files.reduce((sum, file) => sum + (file.hasDeletes ? masks.get(file.segment)!.liveCount : file.recordCount), 0)
  return `SELECT ${fields.map((field) => cell('', null, field)).join(', ')} FROM range(${count})`
}

/** Holds for all rows, which DuckDB does not know, so that it reads them where it would answer from a file's bounds. */
const NO_BOUNDS = ' WHERE f.file_row_number IS NOT NULL'

/** The facts of `table` that meet `condition`. */
interface DeadRows {
  readonly table: string
  readonly condition: string
}

function laterThan(seq: number, { table, condition }: DeadRows): DeadRows {
  return { table, condition: `seq >= ${seq} AND ${condition}` }
}

/**
 * Clean files of one shape share a scan without any condition but `clean`, so that counts and bounds come from the files' metadata. A file with
 * a live mask is read beside it, row by row: both sides are scanned in order, and the mask has a row for each of the file's.
 */
function* fileParts(
  files: readonly ReadyFile[],
  fields: readonly Field[],
  dead: () => DeadRows,
  { masks, bits }: CacheUse,
  native: (name: string) => string,
  clean: string,
): Generator<string> {
  for (const group of byShape(files.filter((file) => !file.hasDeletes))) yield scan(group, fields, clean)
  for (const file of files.filter((one) => one.hasDeletes)) {
    for (const part of masks.get(file.segment)?.parts ?? []) {
      yield scan([file], fields, ` POSITIONAL JOIN ${native(part.name)} m WHERE m.live > 0`, rowCondition(part))
    }
  }
  const rest = files.filter((file) => file.hasDeletes && !masks.has(file.segment))
  const known = bits ? rest.filter((file) => bits.segments.has(file.segment)) : []
  for (const group of byShape(known)) {
    const places = group.map((file, index) => [file.segment, index] as const)
    yield scan(group, fields, bitsJoin(native(bits!.name), places, laterThan(bits!.seq, dead())))
  }
  const dirty = rest.filter((file) => !known.includes(file))
  if (dirty.length === 0) return
  if (dirty.length <= MAX_SEPARATE_FILES) {
    for (const file of dirty) yield scan([file], fields, antiJoin(deadOf(file.segment, dead()), 'f.file_row_number = d.r'))
    return
  }
  for (const group of byShape(dirty)) {
    const places = group.map((file, index) => [file.segment, index] as const)
    yield scan(group, fields, antiJoin(deadOfMany(places, dead()), MANY))
  }
}

function byShape(files: readonly ReadyFile[]): Iterable<readonly ReadyFile[]> {
  return Map.groupBy(files, (file) => file.shape.key).values()
}

/** What a scan must say to read just that part; chunks outside of it are skipped, not decoded. */
function rowCondition({ fromRow, toRow, isLast }: MaskPart): string {
  const conditions = []
  if (fromRow > 0) conditions.push(`file_row_number >= ${fromRow}`)
  if (!isLast) conditions.push(`file_row_number < ${toRow}`)
  return conditions.join(' AND ')
}

/** A scan of files of one shape: of the rows that `condition` lets through, where it is not empty. */
function scan(files: readonly ReadyFile[], fields: readonly Field[], rest: string, condition = ''): string {
  const { shape } = files[0]
  const paths = files.map((file) => quoteText(file.path)).join(', ')
  // The bounds of a file leave NaN out, which is above all of them.
  const nan = fields.some(({ type }) => hasFloat(type)) ? ', can_have_nan = true' : ''
  const read = (options: string) => {
    const source = `read_parquet([${paths}]${nan}${options})`
    return `FROM ${condition === '' ? source : `(FROM ${source} WHERE ${condition})`} f${rest}`
  }
  const stored = fields.map((field) => storedColumn(shape, field))
  if (shape.hasPlainNames) {
    const columns = fields.map((field, index) => cell(quoteName(stored[index]?.name ?? ''), stored[index], field))
    return `SELECT ${columns.join(', ')} ${read('')}`
  }
  const columns = fields.map((field, index) => cell(columnName(field.id), stored[index], field))
  return `SELECT ${columns.join(', ')} ${read(`, schema = ${schemaMap(fields, stored)}`)}`
}

function hasFloat(type: FieldType): boolean {
  if (type.kind === 'list') return hasFloat(type.element)
  return type.kind === 'struct' ? type.fields.some((part) => hasFloat(part.type)) : type.kind === 'float' || type.kind === 'double'
}

/** DuckDB matches by field id and names the columns as told; within them it goes by name, so that they are read with the parts that are stored. */
function schemaMap(fields: readonly Field[], stored: readonly (ColumnShape | null)[]): string {
  const entries = fields.flatMap(({ id, type }, index) => {
    const shape = stored[index]
    if (shape === null) return []
    const read = hasSameParts(shape.parts, type) ? duckdbType(type) : storedType(shape, type)
    return [`${id}: {name: ${quoteText(columnName(id))}, type: ${quoteText(read)}, default_value: NULL}`]
  })
  return `MAP {${entries.join(', ')}}`
}

/** `column` is its name in `f`; a null `stored` says that it is not there. */
function cell(column: string, stored: ColumnShape | null, field: Field): string {
  const value = stored === null ? defaultSql(field) : storedSql(`f.${column}`, stored, field)
  return `${value} AS ${quoteName(field.name)}`
}

function antiJoin(deadRows: string, condition: string): string {
  return ` ANTI JOIN (${deadRows}) d ON ${condition}`
}

const MANY = 'f.file_index = d.i AND f.file_row_number = d.r'

function deadOf(segment: number, { table, condition }: DeadRows): string {
  return `SELECT "row"::BIGINT AS r FROM ${table} WHERE segment = ${segment} AND ${condition}`
}

/** Dead rows by a file's position in the scan's list, which DuckDB's `file_index` counts. */
function deadOfMany(places: readonly Place[], { table, condition }: DeadRows): string {
  return `SELECT p.i AS i, e."row"::BIGINT AS r FROM ${table} e JOIN ${placeTable(places)} ON e.segment = p.s WHERE ${condition}`
}

/** Takes away the rows whose bit is set, and those that died later. */
function bitsJoin(table: string, places: readonly Place[], later: DeadRows): string {
  const blocks = `SELECT p.i AS i, e.block, e.bits FROM ${table} e JOIN ${placeTable(places)} ON e.segment = p.s`
  const join = ` LEFT JOIN (${blocks}) b ON f.file_index = b.i AND f.file_row_number >> ${BLOCK_BITS} = b.block`
  const bit = `get_bit(b.bits, (f.file_row_number & ${2 ** BLOCK_BITS - 1})::INTEGER)`
  return `${join}${antiJoin(deadOfMany(places, later), MANY)} WHERE ${bit} IS DISTINCT FROM 1`
}

/** A segment, and its file's position in the scan's list. */
type Place = readonly [segment: number, index: number]

function placeTable(places: readonly Place[]): string {
  return `(VALUES ${places.map(([segment, index]) => `(${segment}::UINTEGER, ${index}::UBIGINT)`).join(', ')}) p(s, i)`
}
