import { formatTableName, MoonlinkError, type Field, type FieldType, type PrimitiveType, type TableName } from '@moonlink/core'
import * as binary from './binary.ts'
import * as datetime from './datetime.ts'
import { binaryNumeric, textNumeric } from './decimal.ts'
import type { ValueDecoder } from './decoder.ts'
import { numericTypmod, Oid } from './oids.ts'
import { textList } from './text-list.ts'
import * as text from './text.ts'

/** A column as the catalog describes it (`pg_attribute` joined with `pg_type`). */
export interface SourceColumn {
  readonly name: string
  /** `attnum`; becomes the Iceberg field id. */
  readonly number: number
  /** `atttypid` */
  readonly typeOid: number
  /** `atttypmod`, -1 for none. */
  readonly typmod: number
  /** `format_type(atttypid, atttypmod)`, for messages. */
  readonly typeName: string
  /** `pg_type.typtype`: b base, c composite, d domain, e enum, p pseudo, r range, m multirange. */
  readonly typtype: string
  /** `pg_type.typelem` where the type is a true array (`typcategory` A), else 0. */
  readonly elementOid: number
  /** `typtype` of the element type; null where there is none. */
  readonly elementTyptype: string | null
  /** `attndims` */
  readonly dimensions: number
  /** Whether the Iceberg field is required: the column is part of the key, or otherwise never null. */
  readonly required: boolean
}

export interface MappingOptions {
  /** How `time` columns are mirrored. Default `string`: Spark cannot load a table that has an Iceberg `time`. */
  readonly timeAs?: 'string' | 'time'
}

/** A column of the source with the field that mirrors it and what turns one into the other. */
export interface MappedColumn {
  readonly name: string
  readonly typeOid: number
  readonly typmod: number
  readonly field: Field
  readonly decoder: ValueDecoder
}

/** Nested field ids must differ from every column's: a table has at most 1600 columns, and attribute numbers are never reused. */
const ELEMENT_ID_BASE = 2000
const MAX_PRECISION = 38

/**
 * Maps one column. Throws `invalid`/`TABLE_UNSUPPORTED`, naming the table, the column, its type and the way on, where Iceberg or
 * Moonlink has nothing to hold the type.
 */
export function mapColumn(table: TableName, column: SourceColumn, options: MappingOptions = {}): MappedColumn {
  const { name, typeOid, typmod, required } = column
  const mapped = isArray(column) ? mapArray(table, column, options) : mapScalar(table, column, typeOid, column.typtype, options)
  return { name, typeOid, typmod, field: { id: column.number, name, type: mapped.type, required }, decoder: mapped.decoder }
}

interface Mapped<T extends FieldType = FieldType> {
  readonly type: T
  readonly decoder: ValueDecoder
}

const plainText: ValueDecoder = { binary: binary.rawBytes, text: binary.rawBytes }
const rawText: Mapped<PrimitiveType> = { type: { kind: 'string' }, decoder: plainText }
const timeAsTime: Mapped<PrimitiveType> = {
  type: { kind: 'time' },
  decoder: { binary: datetime.binaryTime, text: datetime.textTime },
}
const timestamp: ValueDecoder = { binary: datetime.binaryTimestamp, text: datetime.textTimestamp }

const scalars: ReadonlyMap<number, Mapped<PrimitiveType>> = new Map<number, Mapped<PrimitiveType>>([
  [Oid.bool, { type: { kind: 'boolean' }, decoder: { binary: binary.binaryBool, text: text.textBool } }],
  [Oid.int2, { type: { kind: 'int' }, decoder: { binary: binary.binaryInt2, text: text.textInt2 } }],
  [Oid.int4, { type: { kind: 'int' }, decoder: { binary: binary.binaryInt4, text: text.textInt4 } }],
  [Oid.int8, { type: { kind: 'long' }, decoder: { binary: binary.binaryInt8, text: text.textInt8 } }],
  [Oid.oid, { type: { kind: 'long' }, decoder: { binary: binary.binaryOid, text: text.textOid } }],
  [Oid.float4, { type: { kind: 'float' }, decoder: { binary: binary.binaryFloat4, text: text.textFloat4 } }],
  [Oid.float8, { type: { kind: 'double' }, decoder: { binary: binary.binaryFloat8, text: text.textFloat8 } }],
  [Oid.text, rawText],
  [Oid.varchar, rawText],
  [Oid.bpchar, rawText],
  [Oid.name, rawText],
  [Oid.json, rawText],
  [Oid.char, { type: { kind: 'string' }, decoder: { binary: binary.binaryChar, text: binary.rawBytes } }],
  [Oid.jsonb, { type: { kind: 'string' }, decoder: { binary: binary.binaryJsonb, text: binary.rawBytes } }],
  [Oid.bytea, { type: { kind: 'binary' }, decoder: { binary: binary.rawBytes, text: text.textBytea } }],
  [Oid.uuid, { type: { kind: 'uuid' }, decoder: { binary: binary.binaryUuid, text: text.textUuid } }],
  [Oid.date, { type: { kind: 'date' }, decoder: { binary: datetime.binaryDate, text: datetime.textDate } }],
  [Oid.time, { type: { kind: 'string' }, decoder: { binary: datetime.binaryTimeAsText, text: binary.rawBytes } }],
  [Oid.timestamp, { type: { kind: 'timestamp' }, decoder: timestamp }],
  [Oid.timestamptz, { type: { kind: 'timestamptz' }, decoder: timestamp }],
])

/** Why a type is refused, by `typtype`. */
const reasons: Readonly<Record<string, string>> = {
  b: 'which Iceberg lacks',
  c: 'a composite type, which is not mirrored',
  d: 'a domain, which is not mirrored',
  m: 'which Iceberg lacks',
  p: 'a pseudo-type, which holds no values of its own',
  r: 'which Iceberg lacks',
}

function isArray(column: SourceColumn): boolean {
  return column.elementOid !== 0 && !FIXED_ARRAYS.has(column.typeOid)
}

/** Types of the catalogs' own that count as arrays there but have no null elements, no second dimension and other decoders. */
const FIXED_ARRAYS: ReadonlySet<number> = new Set([Oid.name, Oid.int2vector, Oid.oidvector])

function mapArray(table: TableName, column: SourceColumn, options: MappingOptions): Mapped {
  if (column.dimensions > 1) refuse(table, column, `declared with ${column.dimensions} dimensions, and only one can be mirrored`)
  const element = mapScalar(table, column, column.elementOid, column.elementTyptype ?? 'b', options)
  return {
    type: { kind: 'list', elementId: ELEMENT_ID_BASE + column.number, element: element.type, elementRequired: false },
    decoder: { binary: binary.binaryList(column.elementOid, element.decoder.binary), text: textList(element.decoder.text) },
  }
}

function mapScalar(table: TableName, column: SourceColumn, oid: number, typtype: string, options: MappingOptions): Mapped<PrimitiveType> {
  if (typtype === 'e') return rawText
  if (typtype === 'b' && oid === Oid.numeric) return mapNumeric(table, column)
  if (typtype === 'b' && oid === Oid.time && options.timeAs === 'time') return timeAsTime
  const mapped = typtype === 'b' ? scalars.get(oid) : undefined
  return mapped ?? refuse(table, column, reasons[typtype] ?? 'which is not mirrored')
}

/** Postgres 15 allows a negative scale, and one above the precision; Iceberg neither, but a wider decimal holds the same values. */
function mapNumeric(table: TableName, column: SourceColumn): Mapped<PrimitiveType> {
  const remedy = `Declare numeric(p, s) with at most ${MAX_PRECISION} digits, or`
  if (column.typmod < 0) {
    refuse(table, column, `without a precision, and Iceberg's decimal holds at most ${MAX_PRECISION} digits`, remedy)
  }
  const declared = numericTypmod(column.typmod)
  const precision = declared.scale < 0 ? declared.precision - declared.scale : Math.max(declared.precision, declared.scale)
  const scale = Math.max(0, declared.scale)
  if (precision > MAX_PRECISION) {
    refuse(table, column, `which takes ${precision} digits, and Iceberg's decimal holds at most ${MAX_PRECISION}`, remedy)
  }
  return {
    type: { kind: 'decimal', precision, scale },
    decoder: { binary: binaryNumeric(precision, scale), text: textNumeric(precision, scale) },
  }
}

function refuse(table: TableName, column: SourceColumn, why: string, otherRemedy?: string): never {
  const remedy = `${otherRemedy === undefined ? 'Leave' : `${otherRemedy} leave`} it out with source.excludeColumns: {${formatTableName(table)}: [${column.name}]}.`
  throw new MoonlinkError(
    'invalid',
    'TABLE_UNSUPPORTED',
    `${formatTableName(table)}: column "${column.name}" has type ${column.typeName}, ${why}. ${remedy}`,
    { context: { table: formatTableName(table), column: column.name, type: column.typeName } },
  )
}
