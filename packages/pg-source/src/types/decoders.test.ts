import { ColumnBuilder, isMoonlinkError, valueAt, type Value } from '@moonlink/core'
import { fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { array, f32, f64, i16, i32, i64, numeric } from '../decode/reference-encoder.test.support.ts'
import { BadValueError } from './bad-value.ts'
import { defaultMapping, mapColumn, type MappedColumn } from './mapping.ts'
import { Oid } from './oids.ts'
import { arrayOf, builtIn, sourceColumn } from './source-types.test.support.ts'
import { defaultPolicy, type TypePolicy } from './type-rules.ts'

const table = { schema: 'public', name: 't' }

function mapped(oid: number, typmod = -1, elementOid = 0, as?: string): MappedColumn {
  const type = elementOid === 0 ? builtIn(oid) : arrayOf(builtIn(elementOid), oid)
  const policy: TypePolicy = { ...defaultPolicy, columns: as === undefined ? {} : { 'public.t': { c: { as } } } }
  return mapColumn(table, sourceColumn(type, { typmod }), { ...defaultMapping, policy })
}

/** Decodes with other bytes around the value, which must not be read. */
function decode(column: MappedColumn, form: 'binary' | 'text', value: Buffer | string): Value {
  const bytes = Buffer.from(value as Buffer)
  const builder = new ColumnBuilder(column.field.type)
  column.decoder[form](Buffer.concat([Buffer.alloc(3, 0x39), bytes, Buffer.alloc(3, 0x39)]), 3, 3 + bytes.length, builder)
  expect(builder.length).toBe(1)
  return valueAt(builder.view(), 0)
}

/** Decodes both forms, which must agree. */
function both(column: MappedColumn, binary: Buffer, text: string): Value {
  const value = decode(column, 'binary', binary)
  expect(decode(column, 'text', text)).toEqual(value)
  return value
}

const numericTypmod = (precision: number, scale: number) => ((precision << 16) | (scale & 0x7ff)) + 4

function decimalText(unscaled: bigint, scale: number): string {
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
  const point = digits.length - scale
  return `${unscaled < 0n ? '-' : ''}${digits.slice(0, point)}${scale > 0 ? `.${digits.slice(point)}` : ''}`
}

describe('integers', () => {
  const int8 = mapped(Oid.int8)
  const int4 = mapped(Oid.int4)
  const edges = [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 32n, -(2n ** 32n), 2n ** 31n, 999_999_999_999_999n, -999_999_999_999_999n]

  it.each(edges)('int8 %s', (value) => {
    expect(both(int8, i64(value), String(value))).toBe(value)
  })
  it('int8, any', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => both(int8, i64(value), String(value)) === value),
    )
  })
  it('int4, any', () => {
    fc.assert(fc.property(fc.integer(), (value) => both(int4, i32(value), String(value)) === value))
  })
  it('int2 and oid at their ends', () => {
    expect(both(mapped(Oid.int2), i16(-32768), '-32768')).toBe(-32768)
    expect(both(mapped(Oid.oid), i32(-1), '4294967295')).toBe(4294967295n)
  })
  it.each(['', '-', '+1', '1a', '9223372036854775808', '-9223372036854775809', '99999999999999999999', ' 1'])(
    'refuses int8 %j',
    (value) => {
      expect(() => decode(int8, 'text', value)).toThrow(expect.objectContaining({ kind: 'corrupt', code: 'VALUE_MALFORMED' }))
    },
  )
  it.each(['2147483648', '-2147483649', '1.0', '0x1'])('refuses int4 %j', (value) => {
    expect(() => decode(int4, 'text', value)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
})

describe('floats', () => {
  const float8 = mapped(Oid.float8)
  it.each([0, -0, 1.5, -1e-40, 5e-324, 1.7976931348623157e308, Infinity, -Infinity, Number.NaN, 0.1, 123456789012345680])(
    'float8 %d',
    (value) => {
      const printed = Object.is(value, -0) ? '-0' : String(value).replace(/e(\d)/, 'e+$1')
      expect(both(float8, f64(value), printed)).toBe(value)
    },
  )
  it('float8, any', () => {
    fc.assert(
      fc.property(fc.double(), (value) => {
        const printed = Object.is(value, -0) ? '-0' : String(value).replace(/e(\d)/, 'e+$1')
        expect(both(float8, f64(value), printed)).toBe(value)
      }),
    )
  })
  it('float4, any', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (value) => {
        expect(decode(mapped(Oid.float4), 'binary', f32(value))).toBe(value)
      }),
    )
  })
  it('makes every NaN the same', () => {
    const builder = new ColumnBuilder({ kind: 'double' })
    float8.decoder.binary(Buffer.from('fff8000000000001', 'hex'), 0, 8, builder)
    expect(Buffer.from(builder.view().values.subarray(0, 8)).toString('hex')).toBe('000000000000f87f')
  })
  it.each(['', '.', 'nan', 'inf', '1e5x', '--1', '0x10', '1_0'])('refuses %j', (value) => {
    expect(() => decode(float8, 'text', value)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
})

describe('numeric', () => {
  it('any value of any precision and scale', () => {
    const cases = fc
      .integer({ min: 1, max: 38 })
      .chain((precision) =>
        fc.tuple(fc.constant(precision), fc.integer({ min: 0, max: precision }), fc.integer({ min: 1, max: precision })),
      )
      .chain(([precision, scale, digits]) =>
        fc.tuple(
          fc.constant(precision),
          fc.constant(scale),
          fc.bigInt({ min: -(10n ** BigInt(digits)) + 1n, max: 10n ** BigInt(digits) - 1n }),
        ),
      )
    fc.assert(
      fc.property(cases, ([precision, scale, unscaled]) => {
        const column = mapped(Oid.numeric, numericTypmod(precision, scale))
        expect(both(column, numeric(unscaled, scale), decimalText(unscaled, scale))).toBe(unscaled)
      }),
      { numRuns: 1000 },
    )
  })

  it('holds the ends of decimal(38, 10)', () => {
    const column = mapped(Oid.numeric, numericTypmod(38, 10))
    for (const unscaled of [10n ** 38n - 1n, -(10n ** 38n) + 1n, 10n ** 37n, 2n ** 96n, -(2n ** 96n), -(2n ** 64n)]) {
      expect(both(column, numeric(unscaled, 10), decimalText(unscaled, 10))).toBe(unscaled)
    }
  })

  it('a value with fewer fractional digits than the column, and with zeros past them', () => {
    const column = mapped(Oid.numeric, numericTypmod(10, 4))
    expect(both(column, numeric(15n, 1), '1.5')).toBe(15000n)
    expect(decode(column, 'text', '1.500000')).toBe(15000n)
    expect(both(column, numeric(0n, 4), '0.0000')).toBe(0n)
  })

  it.each([
    ['NaN', 'c000'],
    ['Infinity', 'd000'],
    ['-Infinity', 'f000'],
  ])('refuses %s', (printed, sign) => {
    const column = mapped(Oid.numeric, numericTypmod(10, 2))
    const bytes = Buffer.from(`00000000${sign}0000`, 'hex')
    expect(() => decode(column, 'binary', bytes)).toThrow(BadValueError)
    expect(() => decode(column, 'text', printed)).toThrow(BadValueError)
  })

  it('refuses too many digits, before and after the point', () => {
    const column = mapped(Oid.numeric, numericTypmod(5, 2))
    for (const [unscaled, scale] of [
      [100000n, 2],
      [1n, 3],
      [10n ** 60n, 0],
      [1n, 40],
      [12345678901234567890123n, 3],
    ] as const) {
      expect(() => decode(column, 'binary', numeric(unscaled, scale))).toThrow(BadValueError)
      expect(() => decode(column, 'text', decimalText(unscaled, scale))).toThrow(BadValueError)
    }
  })

  it('refuses bytes that are no numeric', () => {
    const column = mapped(Oid.numeric, numericTypmod(38, 2))
    const bad = ['', '0001', '00010000000000022710', '0002000000000002 0001', '0001000012340002 0001']
    for (const hex of bad) {
      expect(() => decode(column, 'binary', Buffer.from(hex.replace(' ', ''), 'hex'))).toThrow(expect.objectContaining({ kind: 'corrupt' }))
    }
    for (const text of ['', '-', '1.2.', '1e5', 'abc', '1,5']) {
      expect(() => decode(column, 'text', text)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
    }
  })
})

describe('dates and times', () => {
  const timestamp = mapped(Oid.timestamp)
  const micros2000 = 946_684_800_000_000n

  it.each([
    ['1970-01-01', -10957, 0],
    ['2000-02-29', 59, 11016],
    ['4714-11-24 BC', -2451545, -2440588],
    ['0001-12-31 BC', -730120, -719163],
    ['5874897-12-31', 2145031948, 2145042905],
  ])('date %s', (printed, days, expected) => {
    expect(decode(mapped(Oid.date), 'text', printed)).toBe(expected)
    expect(decode(mapped(Oid.date), 'binary', i32(days))).toBe(expected)
  })

  it('timestamps agree with Date over its whole range', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date(-62_135_596_800_000), max: new Date(8.64e15), noInvalidDate: true }),
        fc.nat(999),
        (date, extra) => {
          const micros = BigInt(date.getTime()) * 1000n + BigInt(extra)
          const [day, clock] = date.toISOString().replace(/^\+0*/, '').slice(0, -1).split('T') as [string, string]
          const printed = `${day} ${clock}${String(extra).padStart(3, '0')}`
          expect(decode(timestamp, 'binary', i64(micros - micros2000))).toBe(micros)
          expect(decode(timestamp, 'text', printed)).toBe(micros)
          expect(decode(mapped(Oid.timestamptz), 'text', `${printed}+00`)).toBe(micros)
        },
      ),
    )
  })

  it('takes an offset off', () => {
    const utc = decode(mapped(Oid.timestamptz), 'text', '2024-03-05 10:00:00+00')
    expect(decode(mapped(Oid.timestamptz), 'text', '2024-03-05 15:30:00+05:30')).toBe(utc)
    expect(decode(mapped(Oid.timestamptz), 'text', '2024-03-05 05:06:28-04:53:32')).toBe(utc)
  })

  it('holds int64 but for its last microsecond, which DuckDB takes for infinity', () => {
    const last = 2n ** 63n - 2n
    expect(both(timestamp, i64(last - micros2000), '294247-01-10 04:00:54.775806')).toBe(last)
    expect(() => decode(timestamp, 'binary', i64(last - micros2000 + 1n))).toThrow(BadValueError)
    expect(() => decode(timestamp, 'text', '294247-01-10 04:00:54.775807')).toThrow(BadValueError)
    expect(both(timestamp, i64(-211813488000000000n), '4714-11-24 00:00:00 BC')).toBe(-210866803200000000n)
  })

  it.each([Oid.date, Oid.timestamp, Oid.timestamptz])('refuses the infinities of oid %i', (oid) => {
    const column = mapped(oid)
    const binary = oid === Oid.date ? [i32(2 ** 31 - 1), i32(-(2 ** 31))] : [i64(2n ** 63n - 1n), i64(-(2n ** 63n))]
    for (const bytes of binary) expect(() => decode(column, 'binary', bytes)).toThrow(BadValueError)
    for (const printed of ['infinity', '-infinity']) expect(() => decode(column, 'text', printed)).toThrow(BadValueError)
  })

  it('time as text prints what Postgres prints', () => {
    const column = mapped(Oid.time)
    const cases: [bigint, string][] = [
      [0n, '00:00:00'],
      [86_400_000_000n, '24:00:00'],
      [86_399_999_999n, '23:59:59.999999'],
      [45_296_500_000n, '12:34:56.5'],
      [1n, '00:00:00.000001'],
    ]
    for (const [micros, printed] of cases) expect(both(column, i64(micros), printed)).toBe(printed)
    expect(() => decode(column, 'binary', i64(86_400_000_001n))).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })

  it('time as time refuses 24:00:00', () => {
    const column = mapped(Oid.time, -1, 0, 'time')
    expect(both(column, i64(45_296_500_000n), '12:34:56.5')).toBe(45_296_500_000n)
    expect(() => decode(column, 'binary', i64(86_400_000_000n))).toThrow(BadValueError)
    expect(() => decode(column, 'text', '24:00:00')).toThrow(BadValueError)
  })

  it.each([
    '',
    '2024',
    '05/03/2024',
    '2024-13-01',
    '2024-01-01 10:00',
    '2024-01-01T10:00:00',
    '2024-01-01 10:00:00 AD',
    '2024-01-01 25:00:00',
  ])('refuses timestamp %j', (printed) => {
    expect(() => decode(timestamp, 'text', printed)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
})

describe('bytes and text', () => {
  it('bytea and uuid, any', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const value = both(mapped(Oid.bytea), Buffer.from(bytes), `\\x${Buffer.from(bytes).toString('hex')}`)
        expect(Buffer.from(value as Uint8Array)).toEqual(Buffer.from(bytes))
      }),
    )
    fc.assert(
      fc.property(fc.uuid(), (uuid) => {
        const value = both(mapped(Oid.uuid), Buffer.from(uuid.replaceAll('-', ''), 'hex'), uuid)
        expect(Buffer.from(value as Uint8Array).toString('hex')).toBe(uuid.replaceAll('-', ''))
      }),
    )
  })
  it('a bytea larger than the scratch space', () => {
    const bytes = Buffer.alloc(200_000, 7)
    expect(decode(mapped(Oid.bytea), 'text', `\\x${bytes.toString('hex')}`)).toEqual(new Uint8Array(bytes))
  })
  it('text and jsonb, any', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (value) => both(mapped(Oid.text), Buffer.from(value), value) === value))
    const document = '{"a": [1, "ü😀"]}'
    expect(both(mapped(Oid.jsonb), Buffer.concat([Buffer.of(1), Buffer.from(document)]), document)).toBe(document)
  })
  it('"char" prints as Postgres prints it', () => {
    const column = mapped(Oid.char)
    expect(decode(column, 'binary', Buffer.of(0))).toBe('')
    expect(decode(column, 'binary', Buffer.from('x'))).toBe('x')
    expect(decode(column, 'binary', Buffer.of(0xff))).toBe('\\377')
  })
  it('bool', () => {
    expect(both(mapped(Oid.bool), Buffer.of(1), 't')).toBe(true)
    expect(both(mapped(Oid.bool), Buffer.of(0), 'f')).toBe(false)
  })
  it.each([
    [Oid.bytea, 'abc'],
    [Oid.bytea, '\\xabc'],
    [Oid.bytea, '\\xzz'],
    [Oid.uuid, 'f79c3e09+677c-4bbd-a479-3f349cb785e7'],
    [Oid.bool, 'true'],
  ])('refuses malformed text of oid %i: %s', (oid, value) => {
    expect(() => decode(mapped(oid), 'text', value)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
})

describe('arrays', () => {
  const ints = mapped(1007, -1, Oid.int4)
  const texts = mapped(1009, -1, Oid.text)
  const quote = (value: string | null) => (value === null ? 'NULL' : `"${value.replace(/["\\]/g, '\\$&')}"`)

  it('text[], any', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.string({ unit: 'binary' }))), (values) => {
        const binary = array(
          Oid.text,
          values.map((value) => (value === null ? null : Buffer.from(value))),
        )
        expect(both(texts, binary, `{${values.map(quote).join(',')}}`)).toEqual(values)
      }),
    )
  })
  it('unquoted elements, nulls and bounds', () => {
    expect(both(ints, array(Oid.int4, [i32(1), null, i32(-3)]), '{1,NULL,-3}')).toEqual([1, null, -3])
    expect(decode(ints, 'text', '[1:2]={7,8}')).toEqual([7, 8])
    expect(() => decode(ints, 'text', '[0:1]={7,8}')).toThrow(BadValueError)
    expect(decode(texts, 'text', '{NULL,"NULL",null}')).toEqual([null, 'NULL', 'null'])
    expect(both(ints, array(Oid.int4, []), '{}')).toEqual([])
  })
  it('numeric(10, 2)[]', () => {
    const column = mapped(1231, numericTypmod(10, 2), Oid.numeric)
    expect(both(column, array(Oid.numeric, [numeric(150n, 2), null]), '{1.50,NULL}')).toEqual([150n, null])
    expect(() => decode(column, 'text', '{1.50,NaN}')).toThrow(BadValueError)
  })
  it('refuses several dimensions', () => {
    const binary = Buffer.concat([i32(2), i32(0), i32(23), i32(1), i32(1), i32(1), i32(1), i32(4), i32(5)])
    expect(() => decode(ints, 'binary', binary)).toThrow(BadValueError)
    expect(() => decode(ints, 'text', '{{5}}')).toThrow(BadValueError)
    expect(() => decode(ints, 'text', '[0:0][0:0]={{5}}')).toThrow(BadValueError)
  })
  it.each(['', '{', '}', '{1', '{1,}', '{,1}', '{1}x', '{"1}', '{"1\\"}', '[0:1]', '{1 2}', '{"1"2}'])('refuses %j', (value) => {
    expect(() => decode(ints, 'text', value)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
  it('refuses every cut of a binary array', () => {
    const whole = array(Oid.int4, [i32(1), null, i32(3)])
    for (let size = 0; size < whole.length; size++) {
      expect(() => decode(ints, 'binary', whole.subarray(0, size))).toThrow(expect.objectContaining({ kind: 'corrupt' }))
    }
    const huge = Buffer.concat([i32(1), i32(0), i32(23), i32(0x7fffffff), i32(1)])
    expect(() => decode(ints, 'binary', huge)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
})

describe('any bytes', () => {
  const columns = [
    ...Object.values(Oid).map((oid) => mapped(oid, oid === Oid.numeric ? numericTypmod(20, 3) : -1)),
    ...Object.values(Oid)
      .filter((oid) => oid !== Oid.money && mapped(oid).streamForm === 'any')
      .map((oid) => mapped(oid, -1, 0, 'string')),
    mapped(Oid.time, -1, 0, 'time'),
    mapped(1231, numericTypmod(20, 3), Oid.numeric),
    mapped(1009, -1, Oid.text),
    mapped(1182, -1, Oid.date),
  ]
  it('give a value or a MoonlinkError, and an error leaves no value behind', () => {
    fc.assert(
      fc.property(fc.nat(columns.length - 1), fc.constantFrom('binary', 'text'), fc.uint8Array({ maxLength: 40 }), (index, form, bytes) => {
        const column = columns[index]
        const builder = new ColumnBuilder(column.field.type)
        if (form === 'text' && column.streamForm === 'binary') return
        try {
          column.decoder[form](bytes, 0, bytes.length, builder)
          expect(builder.length).toBe(1)
        } catch (error) {
          expect(isMoonlinkError(error, 'corrupt') || error instanceof BadValueError).toBe(true)
          expect(builder.length).toBe(0)
        }
      }),
      fuzzing(3000),
    )
  })
})
