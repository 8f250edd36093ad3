import { formatType, MoonlinkError, type Field, type FieldType } from '@moonlink/core'
import { LogicalType, malformed, PhysicalType, SchemaElement, type SchemaNode } from './footer.ts'
import { ThriftStruct } from './thrift-compact.ts'
import { VARIANT_PARTS } from './variant-columns.ts'

/** How a column's values are to be understood, told by its Parquet schema. */
export interface PhysicalColumn {
  /** A `PhysicalType`, or -1 for a list or struct. */
  readonly physical: number
  /** Ticks of a time or timestamp per second; 0 for other types. */
  readonly ticksPerSecond: number
  /** Of a decimal, else 0. */
  readonly scale: number
  /** Place among the parts of the struct that it is stored in; else 0. */
  readonly index: number
  /** Of a list its element; of a variant its two parts; of a struct one for each part of the type, null where the file lacks it. */
  readonly children: readonly (PhysicalColumn | null)[]
}

const MILLIS = 1_000
export const MICROS = 1_000_000
const NANOS = 1_000_000_000
/** `ConvertedType` of the older annotations for times and timestamps. */
const CONVERTED_TICKS: Readonly<Record<number, number>> = { 7: MILLIS, 8: MICROS, 9: MILLIS, 10: MICROS }
const TICKS_BY_UNIT: Readonly<Record<number, number>> = { 1: MILLIS, 2: MICROS, 3: NANOS }
/** Annotations of a leaf; without them Arrow shows the plain physical values. */
const LEAF_ANNOTATIONS = [SchemaElement.CONVERTED_TYPE, SchemaElement.SCALE, SchemaElement.PRECISION, SchemaElement.LOGICAL_TYPE]

/** Throws `invalid` where the node cannot be read as `type`. */
export function physicalColumn(node: SchemaNode, type: FieldType, index = 0): PhysicalColumn {
  const group = { physical: -1, ticksPerSecond: 0, scale: 0, index }
  if (type.kind === 'list') {
    const element = listElement(node)
    if (element === null) throw mismatch(node, type)
    return { ...group, children: [physicalColumn(element, type.element)] }
  }
  if (type.kind === 'struct') {
    if (node.children.length === 0 || node.children.some((child) => child.repeated)) throw mismatch(node, type)
    return { ...group, children: type.fields.map((field) => physicalPart(node, field)) }
  }
  if (type.kind === 'variant') return { ...group, children: variantParts(node, type) }
  const { element } = node
  const physical = element.i32(SchemaElement.TYPE)
  if (node.children.length > 0 || physical === undefined || !isReadable(physical, element, type)) throw mismatch(node, type)
  return { physical, ticksPerSecond: ticksOf(element, physical), scale: scaleOf(element), index, children: [] }
}

function variantParts(node: SchemaNode, type: FieldType): PhysicalColumn[] {
  if (node.children.some(({ name }) => name === 'typed_value')) throw shredded(node)
  if (node.children.length !== VARIANT_PARTS.length) throw mismatch(node, type)
  return VARIANT_PARTS.map((name) => {
    const index = node.children.findIndex((child) => child.name === name)
    if (index < 0) throw mismatch(node, type)
    return physicalColumn(node.children[index], { kind: 'binary' }, index)
  })
}

function physicalPart(struct: SchemaNode, field: Field): PhysicalColumn | null {
  const index = struct.children.findIndex((child) => child.fieldId === field.id)
  return index < 0 ? null : physicalColumn(struct.children[index], field.type, index)
}

/**
 * The schema elements of a subtree, depth first, leaves and variants without annotations: whatever a writer declared, booleans, 32- and 64-bit
 * integers, floats, doubles and bytes come out as such.
 */
export function plainElements(node: SchemaNode): ThriftStruct[] {
  if (node.children.length > 0) return [withoutVariant(node.element), ...node.children.flatMap(plainElements)]
  return [node.element.clone().delete(...LEAF_ANNOTATIONS)]
}

function withoutVariant(element: ThriftStruct): ThriftStruct {
  const isVariant = element.struct(SchemaElement.LOGICAL_TYPE)?.struct(LogicalType.VARIANT) !== undefined
  return isVariant ? element.clone().delete(SchemaElement.LOGICAL_TYPE) : element
}

/** The element of a list in any of its layouts (LogicalTypes.md of apache/parquet-format); null where there is none of a simple type. */
function listElement(node: SchemaNode): SchemaNode | null {
  const repeated = node.children[0]
  if (node.children.length !== 1 || repeated === undefined || !repeated.repeated) return null
  if (repeated.children.length === 0) return repeated
  return repeated.children.length === 1 ? repeated.children[0] : null
}

/** Exact types and Iceberg's promotions: int to long, float to double, date to timestamp, decimals of any width. */
function isReadable(physical: number, element: ThriftStruct, type: FieldType): boolean {
  const { INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED, BOOLEAN } = PhysicalType
  switch (type.kind) {
    case 'boolean':
      return physical === BOOLEAN
    case 'int':
    case 'date':
      return physical === INT32
    case 'long':
    case 'time':
      return physical === INT32 || physical === INT64
    case 'timestamp':
    case 'timestamptz':
      return physical === INT32 || physical === INT64 || physical === INT96
    case 'float':
      return physical === FLOAT
    case 'double':
      return physical === FLOAT || physical === DOUBLE
    case 'decimal':
      return [INT32, INT64, BYTE_ARRAY, FIXED].some((one) => one === physical) && scaleOf(element) === type.scale
    case 'string':
    case 'binary':
      return physical === BYTE_ARRAY
    case 'uuid':
      return physical === FIXED && element.i32(SchemaElement.TYPE_LENGTH) === 16
    case 'fixed':
      return physical === FIXED && element.i32(SchemaElement.TYPE_LENGTH) === type.length
    case 'variant':
    case 'list':
    case 'struct':
      return false
  }
}

function ticksOf(element: ThriftStruct, physical: number): number {
  if (physical === PhysicalType.INT96) return NANOS
  const logical = element.struct(SchemaElement.LOGICAL_TYPE)
  const annotation = logical?.struct(LogicalType.TIME) ?? logical?.struct(LogicalType.TIMESTAMP)
  const unit = annotation?.struct(2)
  if (unit !== undefined) {
    const ticks = TICKS_BY_UNIT[unit.ids[0] ?? 0]
    if (ticks === undefined) throw malformed('a time has an unknown unit')
    return ticks
  }
  return CONVERTED_TICKS[element.i32(SchemaElement.CONVERTED_TYPE) ?? -1] ?? 0
}

function scaleOf(element: ThriftStruct): number {
  const decimal = element.struct(SchemaElement.LOGICAL_TYPE)?.struct(LogicalType.DECIMAL)
  return decimal?.i32(1) ?? element.i32(SchemaElement.SCALE) ?? 0
}

/** VariantShredding.md of apache/parquet-format. */
function shredded({ name }: SchemaNode): MoonlinkError {
  const message = `column "${name}" of a Parquet file holds shredded variants, which are not read here: another engine rewrote the file`
  const remedy = `Set write.parquet.shred-variants to false there (S3 Tables: write.variant.shredding.enabled) and have it rewrite the files; or moonlink tables drop --purge, and add the table again`
  return new MoonlinkError('invalid', 'PARQUET_VARIANT_SHREDDED', `${message}. ${remedy}.`, { context: { column: name } })
}

function mismatch(node: SchemaNode, type: FieldType): MoonlinkError {
  const message = `column "${node.name}" (field id ${node.fieldId ?? 'none'}) of a Parquet file cannot be read as ${formatType(type)}`
  return new MoonlinkError('invalid', 'PARQUET_TYPE_MISMATCH', `${message}; the file does not belong to this table's schema`)
}
