import type { Field, PrimitiveType } from '@moonlink/core'
import { LogicalType, PhysicalType, SchemaElement } from '../footer.ts'
import { ThriftStruct, ThriftType } from '../thrift-compact.ts'
import { VARIANT_PARTS } from '../variant-columns.ts'

/** What lies between a top-level column and one of its leaves. `part` and `list` step down to a child. */
export interface Step {
  readonly kind: 'optional' | 'required' | 'list' | 'part'
  /** Of a part: which one. */
  readonly index: number
}

/** A column of values in a file. */
export interface Leaf {
  readonly path: readonly string[]
  readonly fieldId: number
  readonly type: PrimitiveType
  /** A `PhysicalType`. */
  readonly physical: number
  /** Bytes of a value where `physical` is `FIXED`, else 0. */
  readonly typeLength: number
  /** One half of a variant: bytes whose order means nothing. */
  readonly isVariantPart: boolean
  /** Index of the top-level column. */
  readonly column: number
  readonly steps: readonly Step[]
  readonly maxDefinition: number
  readonly maxRepetition: number
}

export interface FileSchema {
  /** Depth first, the root first. */
  readonly elements: readonly ThriftStruct[]
  readonly leaves: readonly Leaf[]
}

const Repetition = { REQUIRED: 0, OPTIONAL: 1, REPEATED: 2 } as const
const ConvertedType = { UTF8: 0, LIST: 3, DECIMAL: 5, DATE: 6, TIME_MICROS: 8, TIMESTAMP_MICROS: 10 } as const
const MICROS_UNIT = 2
const VARIANT_VERSION = 1

/**
 * Fields as Parquet declares them (Iceberg spec, appendix A; LogicalTypes.md of apache/parquet-format), every id as the `field_id` of
 * its column or group. A list has three levels: the list, `list`, `element`. A variant is a group of two byte arrays.
 */
export function fileSchema(fields: readonly Field[]): FileSchema {
  const leaves: Leaf[] = []
  const root = new ThriftStruct().setText(SchemaElement.NAME, 'schema').setI32(SchemaElement.NUM_CHILDREN, fields.length)
  const elements = fields.flatMap((field, column) => describe(field, { column, path: [], steps: [], definition: 0, repetition: 0 }, leaves))
  return { elements: [root, ...elements], leaves }
}

interface Above {
  readonly column: number
  readonly path: readonly string[]
  readonly steps: readonly Step[]
  readonly definition: number
  readonly repetition: number
}

function describe({ id, name, type, required }: Field, above: Above, leaves: Leaf[]): ThriftStruct[] {
  const here: Above = {
    ...above,
    path: [...above.path, name],
    steps: [...above.steps, { kind: required ? 'required' : 'optional', index: 0 }],
    definition: above.definition + (required ? 0 : 1),
  }
  const element = new ThriftStruct()
    .setI32(SchemaElement.REPETITION, required ? Repetition.REQUIRED : Repetition.OPTIONAL)
    .setText(SchemaElement.NAME, name)
    .setI32(SchemaElement.FIELD_ID, id)
  if (type.kind === 'list') {
    const item: Field = { id: type.elementId, name: 'element', type: type.element, required: type.elementRequired }
    return [...listElements(element), ...describe(item, insideList(here), leaves)]
  }
  if (type.kind === 'struct') {
    const parts = type.fields.map((part, index) => describe(part, { ...here, steps: [...here.steps, { kind: 'part', index }] }, leaves))
    return [element.setI32(SchemaElement.NUM_CHILDREN, parts.length), ...parts.flat()]
  }
  const { physical, typeLength } = physicalOf(type)
  const { column, path, steps, definition, repetition } = here
  const leaf = { fieldId: id, physical, typeLength, column, maxDefinition: definition, maxRepetition: repetition }
  if (type.kind === 'variant') {
    VARIANT_PARTS.forEach((name, index) => {
      const partSteps = [...steps, { kind: 'part', index } as const, { kind: 'required', index: 0 } as const]
      leaves.push({ ...leaf, path: [...path, name], type: { kind: 'binary' }, steps: partSteps, isVariantPart: true })
    })
    return [annotateVariant(element), ...VARIANT_PARTS.map(variantPart)]
  }
  leaves.push({ ...leaf, path, type, steps, isVariantPart: false })
  element.setI32(SchemaElement.TYPE, physical)
  if (typeLength > 0) element.setI32(SchemaElement.TYPE_LENGTH, typeLength)
  annotate(element, type)
  return [element]
}

/** VariantEncoding.md of apache/parquet-format; the parts have no field ids of their own. */
function annotateVariant(element: ThriftStruct): ThriftStruct {
  const version = new ThriftStruct().set(1, ThriftType.I8, VARIANT_VERSION)
  return element
    .setI32(SchemaElement.NUM_CHILDREN, VARIANT_PARTS.length)
    .setStruct(SchemaElement.LOGICAL_TYPE, union(LogicalType.VARIANT, version))
}

function variantPart(name: string): ThriftStruct {
  return new ThriftStruct()
    .setI32(SchemaElement.REPETITION, Repetition.REQUIRED)
    .setText(SchemaElement.NAME, name)
    .setI32(SchemaElement.TYPE, PhysicalType.BYTE_ARRAY)
}

function insideList(list: Above): Above {
  return {
    ...list,
    path: [...list.path, 'list'],
    steps: [...list.steps, { kind: 'list', index: 0 }],
    definition: list.definition + 1,
    repetition: list.repetition + 1,
  }
}

function listElements(element: ThriftStruct): ThriftStruct[] {
  const repeated = new ThriftStruct()
    .setI32(SchemaElement.REPETITION, Repetition.REPEATED)
    .setText(SchemaElement.NAME, 'list')
    .setI32(SchemaElement.NUM_CHILDREN, 1)
  return [
    element
      .setI32(SchemaElement.NUM_CHILDREN, 1)
      .setI32(SchemaElement.CONVERTED_TYPE, ConvertedType.LIST)
      .setStruct(SchemaElement.LOGICAL_TYPE, union(LogicalType.LIST)),
    repeated,
  ]
}

function physicalOf(type: PrimitiveType): { physical: number; typeLength: number } {
  const { BOOLEAN, INT32, INT64, FLOAT, DOUBLE, BYTE_ARRAY, FIXED } = PhysicalType
  const of = (physical: number, typeLength = 0) => ({ physical, typeLength })
  switch (type.kind) {
    case 'boolean':
      return of(BOOLEAN)
    case 'int':
    case 'date':
      return of(INT32)
    case 'long':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return of(INT64)
    case 'float':
      return of(FLOAT)
    case 'double':
      return of(DOUBLE)
    case 'string':
    case 'binary':
    case 'variant':
      return of(BYTE_ARRAY)
    case 'uuid':
      return of(FIXED, 16)
    case 'fixed':
      return of(FIXED, type.length)
    case 'decimal':
      if (type.precision <= 9) return of(INT32)
      return type.precision <= 18 ? of(INT64) : of(FIXED, decimalBytes(type.precision))
  }
}

/** The fewest bytes that hold every unscaled value of so many digits. */
function decimalBytes(precision: number): number {
  const greatest = 10n ** BigInt(precision)
  let bytes = 1
  while (1n << BigInt(8 * bytes - 1) < greatest) bytes++
  return bytes
}

/** The logical type, and its older form for readers that know only that. */
function annotate(element: ThriftStruct, type: PrimitiveType): void {
  const set = (logical: ThriftStruct, converted: number | null) => {
    element.setStruct(SchemaElement.LOGICAL_TYPE, logical)
    if (converted !== null) element.setI32(SchemaElement.CONVERTED_TYPE, converted)
  }
  switch (type.kind) {
    case 'string':
      return set(union(LogicalType.STRING), ConvertedType.UTF8)
    case 'date':
      return set(union(LogicalType.DATE), ConvertedType.DATE)
    case 'time':
      return set(union(LogicalType.TIME, micros(false)), ConvertedType.TIME_MICROS)
    case 'timestamp':
    case 'timestamptz':
      return set(union(LogicalType.TIMESTAMP, micros(type.kind === 'timestamptz')), ConvertedType.TIMESTAMP_MICROS)
    case 'uuid':
      return set(union(LogicalType.UUID), null)
    case 'decimal':
      element.setI32(SchemaElement.SCALE, type.scale).setI32(SchemaElement.PRECISION, type.precision)
      return set(union(LogicalType.DECIMAL, new ThriftStruct().setI32(1, type.scale).setI32(2, type.precision)), ConvertedType.DECIMAL)
    default:
      return
  }
}

function micros(isAdjustedToUtc: boolean): ThriftStruct {
  return new ThriftStruct().setBoolean(1, isAdjustedToUtc).setStruct(2, union(MICROS_UNIT))
}

function union(id: number, value = new ThriftStruct()): ThriftStruct {
  return new ThriftStruct().setStruct(id, value)
}
