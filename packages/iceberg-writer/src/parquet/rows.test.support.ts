import {
  appendValue,
  BatchBuilder,
  plainKinds,
  valueAt,
  type ColumnBatch,
  type Field,
  type FieldType,
  type PrimitiveType,
  type Value,
} from '@moonlink/core'
import fc from 'fast-check'

const primitiveType: fc.Arbitrary<PrimitiveType> = fc.oneof(
  fc.constantFrom(...plainKinds).map((kind): PrimitiveType => ({ kind })),
  fc.integer({ min: 1, max: 20 }).map((length): PrimitiveType => ({ kind: 'fixed', length })),
  fc
    .integer({ min: 1, max: 38 })
    .chain((precision) => fc.integer({ min: 0, max: precision }).map((scale): PrimitiveType => ({ kind: 'decimal', precision, scale }))),
)

const { anyType } = fc.letrec<{ anyType: FieldType; list: FieldType; struct: FieldType }>((tie) => ({
  anyType: fc.oneof({ maxDepth: 3 }, { weight: 8, arbitrary: primitiveType }, tie('list'), tie('struct')),
  list: tie('anyType').map((element) => listOf(element, 0)),
  struct: fc.array(tie('anyType'), { minLength: 1, maxLength: 3 }).map((types) => structOf(...types.map((type) => field(0, type)))),
}))

/** Fields of every type, lists and structs of each other among them, with ids in the order of the schema. */
export const anyFields: fc.Arbitrary<Field[]> = fc
  .array(fc.record({ type: anyType, required: fc.boolean() }), { minLength: 1, maxLength: 6 })
  .map((columns) => {
    let last = 0
    const number = (type: FieldType): FieldType => {
      if (type.kind === 'list') return { ...type, elementId: ++last, element: number(type.element) }
      return type.kind === 'struct' ? structOf(...type.fields.map((part) => field(++last, number(part.type)))) : type
    }
    return columns.map(({ type, required }) => field(++last, number(type), required))
  })

export function field(id: number, type: FieldType, required = false): Field {
  return { id, name: `column ${id}`, type, required }
}

export function listOf(element: FieldType, elementId: number): FieldType {
  return { kind: 'list', element, elementId, elementRequired: false }
}

export function structOf(...fields: Field[]): FieldType {
  return { kind: 'struct', fields }
}

/** Values that the type can hold, the awkward ones more often. */
export function anyValue(type: FieldType): fc.Arbitrary<Value> {
  switch (type.kind) {
    case 'boolean':
      return fc.boolean()
    case 'int':
    case 'date':
      return fc.oneof(fc.integer(), fc.constantFrom(0, -1, -0x8000_0000, 0x7fff_ffff))
    case 'long':
    case 'timestamp':
    case 'timestamptz':
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
    case 'time':
      return fc.bigInt({ min: 0n, max: 86_399_999_999n })
    case 'float':
      return fc.oneof(fc.float(), fc.constantFrom(0, -0, NaN, Infinity, -Infinity))
    case 'double':
      return fc.oneof(fc.double(), fc.constantFrom(0, -0, NaN, Infinity, -Infinity))
    case 'string':
      return fc.oneof(fc.string({ unit: 'binary', maxLength: 40 }), fc.constantFrom('', '\u{10ffff}'.repeat(20), 'x'.repeat(200)))
    case 'binary':
      return fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constant(new Uint8Array(20).fill(255)))
    case 'variant':
      return fc.oneof(
        fc.constantFrom(
          'null',
          '{}',
          '[]',
          '""',
          '{"b": 1.50, "aa": [true, null, "\\n", {"b": {}}], "é": -9007199254740993}',
          `"${'x'.repeat(100)}"`,
        ),
        fc.maxSafeInteger().map(String),
        fc.stringMatching(/^[a-z]{1,9}$/).map((key) => `{"${key}": "${key}"}`),
      )
    case 'uuid':
      return fc.uint8Array({ minLength: 16, maxLength: 16 })
    case 'fixed':
      return fc.uint8Array({ minLength: type.length, maxLength: type.length })
    case 'decimal': {
      const max = 10n ** BigInt(type.precision) - 1n
      return fc.oneof(fc.bigInt({ min: -max, max }), fc.constantFrom(0n, -1n, max, -max))
    }
    case 'list':
      return fc.array(anyCell(type.element, type.elementRequired), { maxLength: 5 })
    case 'struct':
      return fc.tuple(...type.fields.map((part) => anyCell(part.type, part.required)))
  }
}

/** Rows of these fields, as values per row. */
export function anyRows(fields: readonly Field[], maxLength: number): fc.Arbitrary<Value[][]> {
  return fc.array(fc.tuple(...fields.map(({ type, required }) => anyCell(type, required))), { maxLength })
}

export function toBatch(fields: readonly Field[], rows: readonly (readonly Value[])[]): ColumnBatch {
  const batch = new BatchBuilder(fields)
  for (const row of rows) row.forEach((value, index) => appendValue(batch.builders[index], value))
  return { ...batch.view(), length: rows.length }
}

export function toRows(batch: ColumnBatch): Value[][] {
  return Array.from({ length: batch.length }, (_, row) => batch.columns.map((column) => valueAt(column, row)))
}

function anyCell(type: FieldType, required: boolean): fc.Arbitrary<Value> {
  return required ? anyValue(type) : fc.option(anyValue(type), { freq: 4 })
}
