import { ColumnBuilder, formatType, isMoonlinkError, valueAt } from '@moonlink/core'
import { describe, expect, it } from 'vitest'
import { array, i32, numeric as numericBytes } from '../decode/reference-encoder.test.support.ts'
import { defaultMapping, mapColumn, type SourceColumn } from './mapping.ts'
import { Oid } from './oids.ts'
import { arrayOf, builtIn, composite, domain, numericTypmodOf, ownType, sourceColumn, use } from './source-types.test.support.ts'
import type { SourceType } from './source-type.ts'
import { defaultPolicy, type TypePolicy, type TypeRule } from './type-rules.ts'
import { TextBeside } from './unfit.ts'

const table = { schema: 'public', name: 'orders' }

function map(type: SourceType, rule: TypeRule = {}, column: Partial<SourceColumn> = {}, policy: Partial<TypePolicy> = {}) {
  const rules = { ...defaultPolicy, columns: { 'public.orders': { c: rule } }, ...policy }
  return mapColumn(table, sourceColumn(type, column), { ...defaultMapping, policy: rules })
}

const typeOf = (...args: Parameters<typeof map>) => formatType(map(...args).field.type)
const byTypes = (types: TypePolicy['types']) => [{}, {}, { types }] as const

function refusalOf(...args: Parameters<typeof map>): string {
  try {
    map(...args)
  } catch (error) {
    if (isMoonlinkError(error, 'invalid') && error.code === 'TABLE_UNSUPPORTED') return error.message
    throw error
  }
  throw new Error('was not refused')
}

describe('by default', () => {
  it.each([
    [Oid.bool, 'boolean'],
    [Oid.int2, 'int'],
    [Oid.int4, 'int'],
    [Oid.int8, 'long'],
    [Oid.oid, 'long'],
    [Oid.xid, 'long'],
    [Oid.regclass, 'long'],
    [Oid.xid8, 'decimal(20, 0)'],
    [Oid.money, 'decimal(19, 2)'],
    [Oid.float4, 'float'],
    [Oid.float8, 'double'],
    [Oid.bytea, 'binary'],
    [Oid.uuid, 'uuid'],
    [Oid.date, 'date'],
    [Oid.timestamp, 'timestamp'],
    [Oid.timestamptz, 'timestamptz'],
    [Oid.int2vector, 'list<int>'],
    [Oid.oidvector, 'list<long>'],
    ...[Oid.text, Oid.varchar, Oid.bpchar, Oid.char, Oid.name, Oid.json, Oid.jsonb, Oid.time, Oid.timetz, Oid.interval, Oid.inet].map(
      (oid): [number, string] => [oid, 'string'],
    ),
  ])('oid %i becomes %s', (oid, expected) => {
    expect(typeOf(builtIn(oid))).toBe(expected)
  })

  it('every built-in type is mirrored, and all but oid aliases and money can be told from their binary form as text', () => {
    const unknown = Object.values(Oid).filter((oid) => map(builtIn(oid), { as: 'string' }).copyForm === 'text')
    const aliases = Object.entries(Oid).flatMap(([name, oid]) => (name.startsWith('reg') ? [oid] : []))
    expect(new Set<number>(unknown)).toEqual(new Set<number>([...aliases, Oid.money]))
  })

  it('a list has the attribute number with an offset as the id of its elements', () => {
    expect(map(arrayOf(builtIn(Oid.int4)), {}, { number: 7, required: true }).field).toEqual({
      id: 7,
      name: 'c',
      type: { kind: 'list', elementId: 2007, element: { kind: 'int' }, elementRequired: false },
      required: true,
    })
  })

  it.each([
    [38, 10, 'decimal(38, 10)'],
    [1, 0, 'decimal(1, 0)'],
    [3, -2, 'decimal(5, 0)'],
    [3, 5, 'decimal(5, 5)'],
    [30, -8, 'decimal(38, 0)'],
    [39, 2, 'string'],
    [30, -9, 'string'],
  ])('numeric(%i, %i) becomes %s', (precision, scale, expected) => {
    const column = { typmod: numericTypmodOf(precision, scale) }
    expect(typeOf(builtIn(Oid.numeric), {}, column)).toBe(expected)
    expect(typeOf(arrayOf(builtIn(Oid.numeric), 1231), {}, column)).toBe(`list<${expected}>`)
  })

  it('a numeric without precision is text', () => {
    expect(typeOf(builtIn(Oid.numeric))).toBe('string')
  })

  it('an array has as many lists as it was declared with dimensions', () => {
    expect(typeOf(arrayOf(builtIn(Oid.int4)), {}, { dimensions: 3 })).toBe('list<list<list<int>>>')
  })

  it('a domain is what it is based on, with the typmod and the dimensions of whichever gives them', () => {
    const price = domain('price', builtIn(Oid.numeric), { typmod: numericTypmodOf(12, 2) })
    expect(typeOf(price)).toBe('decimal(12, 2)')
    expect(typeOf(domain('outer', price))).toBe('decimal(12, 2)')
    expect(typeOf(arrayOf(price, 16_501))).toBe('list<decimal(12, 2)>')
    expect(typeOf(domain('grid', arrayOf(builtIn(Oid.int4)), { dimensions: 2 }))).toBe('list<list<int>>')
    expect(typeOf(arrayOf(domain('row', arrayOf(builtIn(Oid.int4))), 16_502))).toBe('list<list<int>>')
  })

  it('a composite is a struct, in lists and in composites too, whose parts have ids of their own', () => {
    const place = composite('place', { street: builtIn(Oid.text), zip: use(builtIn(Oid.numeric), { typmod: numericTypmodOf(5, 0) }) })
    const person = composite('person', { name: builtIn(Oid.text), places: arrayOf(place, 16_503), home: place })
    expect(typeOf(person)).toBe(
      'struct<30001: name string, 30002: places list<struct<30004: street string, 30005: zip decimal(5, 0)>>, 30006: home struct<30007: street string, 30008: zip decimal(5, 0)>>',
    )
    expect(typeOf(arrayOf(place, 16_504))).toBe('list<struct<30001: street string, 30002: zip decimal(5, 0)>>')
  })

  it('enums, ranges, multiranges, empty composites and extensions nobody knows are text', () => {
    const range = ownType({ name: 'int4range', kind: 'r', part: builtIn(Oid.int4) })
    expect(typeOf(ownType({ kind: 'e' }))).toBe('string')
    expect(typeOf(arrayOf(ownType({ kind: 'e' })))).toBe('list<string>')
    expect(map(range)).toMatchObject({ field: { type: { kind: 'string' } }, copyForm: 'binary', streamForm: 'any' })
    expect(map(ownType({ kind: 'm', part: range })).copyForm).toBe('binary')
    expect(typeOf(ownType({ kind: 'c' }))).toBe('string')
    const strange = ownType({ name: 'cube', extension: 'cube' })
    expect(map(strange)).toMatchObject({ field: { type: { kind: 'string' } }, copyForm: 'text', streamForm: 'text' })
    expect(map(composite('holder', { part: strange }))).toMatchObject({ copyForm: 'text', streamForm: 'text' })
  })

  it('a type without a binary form comes as text in any stream, but not deep within', () => {
    const aclitem = ownType({ name: 'aclitem', isSendable: false })
    expect(map(aclitem)).toMatchObject({ copyForm: 'text', streamForm: 'any' })
    expect(map(arrayOf(aclitem))).toMatchObject({ copyForm: 'text', streamForm: 'text' })
  })

  it("extensions' types: pgvector, PostGIS, hstore, citext", () => {
    const from = (extension: string, name: string) => map(ownType({ extension, name }))
    expect(formatType(from('vector', 'vector').field.type)).toBe('list<float>')
    expect(formatType(from('vector', 'halfvec').field.type)).toBe('list<float>')
    expect(formatType(from('postgis', 'geometry').field.type)).toBe('binary')
    for (const [extension, name] of [
      ['vector', 'sparsevec'],
      ['hstore', 'hstore'],
      ['citext', 'citext'],
    ] as const) {
      expect(from(extension, name)).toMatchObject({ field: { type: { kind: 'string' } }, streamForm: 'any' })
    }
  })
})

describe('a rule', () => {
  it('of a column says what it becomes', () => {
    expect(typeOf(builtIn(Oid.time), { as: 'time' })).toBe('time')
    expect(typeOf(builtIn(Oid.numeric), { as: 'decimal(38, 6)' })).toBe('decimal(38, 6)')
    expect(typeOf(builtIn(Oid.int4), { as: 'string' })).toBe('string')
    expect(typeOf(builtIn(Oid.jsonb), { as: 'variant' })).toBe('variant')
    expect(typeOf(arrayOf(builtIn(Oid.json)), { as: 'list<variant>' })).toBe('list<variant>')
    expect(typeOf(arrayOf(builtIn(Oid.int4)), { as: 'list<list>' })).toBe('list<list<int>>')
    expect(typeOf(arrayOf(builtIn(Oid.int4)), { as: 'list' }, { dimensions: 2 })).toBe('list<int>')
    expect(typeOf(arrayOf(builtIn(Oid.numeric)), { as: 'list<list<decimal(38,2)>>' })).toBe('list<list<decimal(38, 2)>>')
    expect(typeOf(composite('place', { street: builtIn(Oid.text) }), { as: 'string' })).toBe('string')
  })

  it('of a type holds wherever the type is, under any of its names; that of a column goes before it', () => {
    expect(typeOf(builtIn(Oid.time), ...byTypes({ time: { as: 'time' } }))).toBe('time')
    expect(typeOf(arrayOf(builtIn(Oid.time), 1183), ...byTypes({ 'time without time zone': { as: 'time' } }))).toBe('list<time>')
    expect(typeOf(composite('x', { at: builtIn(Oid.time) }), ...byTypes({ time: { as: 'time' } }))).toBe('struct<30001: at time>')
    expect(typeOf(arrayOf(builtIn(Oid.int4)), ...byTypes({ 'integer[]': { as: 'string' } }))).toBe('string')
    expect(typeOf(domain('wide', builtIn(Oid.numeric)), ...byTypes({ 'public.wide': { as: 'decimal(38,1)' } }))).toBe('decimal(38, 1)')
    expect(typeOf(domain('wide', builtIn(Oid.numeric)), ...byTypes({ numeric: { as: 'decimal(38,1)' } }))).toBe('decimal(38, 1)')
    const columns = { 'public.orders': { c: { as: 'decimal(10,0)' } } }
    expect(typeOf(builtIn(Oid.numeric), {}, {}, { types: { numeric: { as: 'string' } }, columns })).toBe('decimal(10, 0)')
  })

  it.each([
    ['a type that it cannot be', builtIn(Oid.text), { as: 'date' }, "can't be mirrored as date. Possible: string."],
    ['a decimal that it is not', builtIn(Oid.money), { as: 'decimal(10,2)' }, 'Possible: decimal(19, 2), string.'],
    ['numeric as double', builtIn(Oid.numeric), { as: 'double' }, 'Possible: string, decimal(38,s).'],
    ['what is no JSON as a variant', builtIn(Oid.text), { as: 'variant' }, "can't be mirrored as variant. Possible: string."],
    ['a list as a struct', arrayOf(builtIn(Oid.int4)), { as: 'struct' }, 'Possible: list, list<list>, string.'],
    ['names that differ by case', composite('x', { a: builtIn(Oid.int4), A: builtIn(Oid.int4) }), {}, 'differ only by case'],
  ])('is refused, naming column, type and the way on: %s', (_, type, rule, why) => {
    const message = refusalOf(type, rule)
    expect(message).toMatch(/^public\.orders: column "c" has type .*, and /)
    expect(message).toContain(why)
  })

  it('may not let a key be inexact', () => {
    expect(refusalOf(builtIn(Oid.date), { onUnfit: 'null' }, { isKey: true })).toContain('part of the key')
    expect(map(builtIn(Oid.date), {}, { isKey: true, required: true }, { onUnfit: 'text' })).toMatchObject({
      textField: null,
      unfit: null,
      field: { required: true },
    })
  })
})

describe('values that do not fit', () => {
  const prices = arrayOf(builtIn(Oid.numeric), 1231)
  const typmod = numericTypmodOf(5, 2)
  const nan = Buffer.from('00000000c0000000', 'hex')

  it('become null, each alone, and are counted', () => {
    const { decoder, field, unfit } = map(prices, { onUnfit: 'null' }, { typmod, required: true })
    const builder = new ColumnBuilder(field.type)
    const bytes = array(Oid.numeric, [numericBytes(150n, 2), nan, null])
    decoder.binary(bytes, 0, bytes.length, builder)
    const grid = Buffer.concat([i32(2), i32(0), i32(Oid.numeric), i32(1), i32(1), i32(1), i32(1), i32(-1)])
    decoder.binary(grid, 0, grid.length, builder)
    expect([0, 1].map((row) => valueAt(builder.view(), row))).toEqual([[150n, null, null], null])
    expect(unfit).toEqual({ action: 'null', counter: { count: 2 } })
    expect(field.required).toBe(false)
  })

  it('go by the rule of the type that they are of, wherever it occurs', () => {
    const policy = (onUnfit: 'null' | 'text', ofAll: 'error' | 'text' = 'error') => ({ types: { numeric: { onUnfit } }, onUnfit: ofAll })
    const { decoder, field, unfit } = map(prices, {}, { typmod, required: true }, policy('null'))
    const builder = new ColumnBuilder(field.type)
    const bytes = array(Oid.numeric, [nan, numericBytes(150n, 2)])
    decoder.binary(bytes, 0, bytes.length, builder)
    expect(valueAt(builder.view(), 0)).toEqual([null, 150n])
    expect([field.required, unfit]).toEqual([true, { action: 'null', counter: { count: 1 } }])
    // Of the list itself nothing is said.
    const grid = Buffer.concat([i32(2), i32(0), i32(Oid.numeric), i32(1), i32(1), i32(1), i32(1), i32(-1)])
    expect(() => decoder.binary(grid, 0, grid.length, builder)).toThrow('dimensions')
    // The rule of a column comes first; text is of the whole column.
    expect(map(prices, { onUnfit: 'error' }, { typmod }, policy('null')).unfit).toBeNull()
    const place = composite('place', { price: use(builtIn(Oid.numeric), { typmod }) })
    for (const type of [prices, place]) {
      expect(map(type, {}, { typmod, required: true }, policy('text'))).toMatchObject({
        field: { required: false },
        textField: { name: 'c_text' },
        unfit: { action: 'text' },
      })
    }
    expect(map(prices, {}, { typmod, isKey: true }, policy('null', 'text'))).toMatchObject({ textField: null, unfit: null })
  })

  it('leave their text beside', () => {
    const { decoder, textDecoder, textField, field, unfit } = map(prices, { onUnfit: 'text' }, { typmod, number: 9 })
    expect(textField).toEqual({ id: 4009, name: 'c_text', type: { kind: 'string' }, required: false })
    const either = new TextBeside(decoder, textDecoder, unfit!.counter)
    const builder = new ColumnBuilder(field.type)
    const beside = new ColumnBuilder({ kind: 'string' })
    either.beside = beside
    for (const elements of [[numericBytes(150n, 2)], [numericBytes(150n, 2), nan]]) {
      const bytes = array(Oid.numeric, elements)
      either.binary(bytes, 0, bytes.length, builder)
    }
    expect([0, 1].map((row) => [valueAt(builder.view(), row), valueAt(beside.view(), row)])).toEqual([
      [[150n], null],
      [null, '{1.50,NaN}'],
    ])
    expect(unfit!.counter.count).toBe(1)
  })

  it('change nothing where every value fits', () => {
    expect(map(builtIn(Oid.text), { onUnfit: 'text' }, { required: true })).toMatchObject({
      textField: null,
      unfit: null,
      field: { required: true },
    })
  })
})
