import { formatType, isMoonlinkError } from '@moonlink/core'
import { describe, expect, it } from 'vitest'
import { mapColumn, type MappingOptions, type SourceColumn } from './mapping.ts'
import { Oid } from './oids.ts'

const table = { schema: 'public', name: 'orders' }

function column(overrides: Partial<SourceColumn>): SourceColumn {
  return {
    name: 'c',
    number: 3,
    typeOid: Oid.text,
    typmod: -1,
    typeName: 'text',
    typtype: 'b',
    elementOid: 0,
    elementTyptype: null,
    dimensions: 0,
    required: false,
    ...overrides,
  }
}

const numeric = (precision: number, scale: number) => ({ typeOid: Oid.numeric, typmod: ((precision << 16) | (scale & 0x7ff)) + 4 })
const typeOf = (overrides: Partial<SourceColumn>, options?: MappingOptions) =>
  formatType(mapColumn(table, column(overrides), options).field.type)

function refusalOf(overrides: Partial<SourceColumn>): string {
  try {
    mapColumn(table, column(overrides))
  } catch (error) {
    if (isMoonlinkError(error, 'invalid') && error.code === 'TABLE_UNSUPPORTED') return error.message
    throw error
  }
  throw new Error('was not refused')
}

describe('mapColumn', () => {
  it.each([
    [Oid.bool, 'boolean'],
    [Oid.int2, 'int'],
    [Oid.int4, 'int'],
    [Oid.int8, 'long'],
    [Oid.oid, 'long'],
    [Oid.float4, 'float'],
    [Oid.float8, 'double'],
    [Oid.text, 'string'],
    [Oid.varchar, 'string'],
    [Oid.bpchar, 'string'],
    [Oid.char, 'string'],
    [Oid.name, 'string'],
    [Oid.json, 'string'],
    [Oid.jsonb, 'string'],
    [Oid.bytea, 'binary'],
    [Oid.uuid, 'uuid'],
    [Oid.date, 'date'],
    [Oid.time, 'string'],
    [Oid.timestamp, 'timestamp'],
    [Oid.timestamptz, 'timestamptz'],
  ])('maps oid %i to %s', (typeOid, expected) => {
    expect(typeOf({ typeOid })).toBe(expected)
  })

  it('keeps the attribute number as field id and gives list elements ids of their own', () => {
    const { field } = mapColumn(
      table,
      column({ typeOid: 1007, elementOid: Oid.int4, elementTyptype: 'b', number: 7, dimensions: 1, required: true }),
    )
    expect(field).toEqual({
      id: 7,
      name: 'c',
      type: { kind: 'list', elementId: 2007, element: { kind: 'int' }, elementRequired: false },
      required: true,
    })
  })

  it('mirrors time as Iceberg time where asked to', () => {
    expect(typeOf({ typeOid: Oid.time }, { timeAs: 'time' })).toBe('time')
    expect(typeOf({ typeOid: 1183, elementOid: Oid.time, elementTyptype: 'b' }, { timeAs: 'time' })).toBe('list<time>')
  })

  it('mirrors name, although the catalog calls it an array of "char"', () => {
    expect(typeOf({ typeOid: Oid.name, elementOid: Oid.char, elementTyptype: 'b' })).toBe('string')
  })

  it('mirrors enums and their arrays', () => {
    expect(typeOf({ typeOid: 16401, typtype: 'e' })).toBe('string')
    expect(typeOf({ typeOid: 16400, elementOid: 16401, elementTyptype: 'e' })).toBe('list<string>')
  })

  it.each([
    [38, 10, 'decimal(38, 10)'],
    [1, 0, 'decimal(1, 0)'],
    [3, -2, 'decimal(5, 0)'],
    [3, 5, 'decimal(5, 5)'],
    [30, -8, 'decimal(38, 0)'],
  ])('maps numeric(%i, %i)', (precision, scale, expected) => {
    expect(typeOf(numeric(precision, scale))).toBe(expected)
    expect(typeOf({ ...numeric(precision, scale), typeOid: 1231, elementOid: Oid.numeric, elementTyptype: 'b' })).toBe(`list<${expected}>`)
  })

  it.each([
    ['unconstrained numeric', { typeOid: Oid.numeric, typeName: 'numeric' }, 'Declare numeric(p, s)'],
    ['numeric of 39 digits', { ...numeric(39, 2), typeName: 'numeric(39,2)' }, 'takes 39 digits'],
    ['a negative scale too wide', { ...numeric(30, -9), typeName: 'numeric(30,-9)' }, 'takes 39 digits'],
    ['interval', { typeOid: 1186, typeName: 'interval' }, 'which Iceberg lacks'],
    ['timetz', { typeOid: 1266, typeName: 'time with time zone' }, 'which Iceberg lacks'],
    ['bit', { typeOid: 1560, typeName: 'bit(3)' }, 'which Iceberg lacks'],
    ['inet', { typeOid: 869, typeName: 'inet' }, 'which Iceberg lacks'],
    ['inet[]', { typeOid: 1041, typeName: 'inet[]', elementOid: 869, elementTyptype: 'b' }, 'which Iceberg lacks'],
    ['int2vector', { typeOid: 22, typeName: 'int2vector', elementOid: 21, elementTyptype: 'b' }, 'which Iceberg lacks'],
    ['a domain', { typeOid: 16500, typeName: 'email', typtype: 'd' }, 'a domain'],
    ['an array of a domain', { typeOid: 16501, typeName: 'email[]', elementOid: 16500, elementTyptype: 'd' }, 'a domain'],
    ['a composite', { typeOid: 16500, typeName: 'address', typtype: 'c' }, 'a composite type'],
    ['a range', { typeOid: 3904, typeName: 'int4range', typtype: 'r' }, 'which Iceberg lacks'],
    ['a multirange', { typeOid: 4451, typeName: 'int4multirange', typtype: 'm' }, 'which Iceberg lacks'],
    ['two dimensions', { typeOid: 1007, typeName: 'integer[]', elementOid: 23, elementTyptype: 'b', dimensions: 2 }, '2 dimensions'],
  ])('refuses %s, naming column, type and the way on', (_, overrides, why) => {
    const message = refusalOf({ name: 'span', ...overrides })
    expect(message).toMatch(/^public\.orders: column "span" has type /)
    expect(message).toContain(overrides.typeName)
    expect(message).toContain(why)
    expect(message).toMatch(/eave it out with source\.excludeColumns: {public\.orders: \[span\]}\.$/)
  })
})
