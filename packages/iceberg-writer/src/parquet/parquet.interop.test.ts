import { joinBytes, type Field, type FieldType, type Value } from '@moonlink/core'
import fc from 'fast-check'
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fetchRows, planScan, readWindow } from './decode.ts'
import { encodeParquet } from './encode.ts'
import { anyValue, field, listOf, structOf, toBatch, toRows } from './rows.test.support.ts'
import type { EncodedParquet } from './types.ts'

const work = process.env['INTEROP_WORK'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'moonlink-interop')
const PYTHON = join(work, 'venv/bin/python')

const TYPES: FieldType[] = [
  { kind: 'boolean' },
  { kind: 'int' },
  { kind: 'long' },
  { kind: 'float' },
  { kind: 'double' },
  { kind: 'date' },
  { kind: 'time' },
  { kind: 'timestamp' },
  { kind: 'timestamptz' },
  { kind: 'string' },
  { kind: 'uuid' },
  { kind: 'binary' },
  { kind: 'fixed', length: 5 },
  ...[1, 9, 10, 18, 19, 21, 22, 23, 24, 26, 28, 31, 33, 35, 36, 38].map((precision): FieldType => ({
    kind: 'decimal',
    precision,
    scale: 1,
  })),
  listOf({ kind: 'long' }, 1001),
  listOf({ kind: 'uuid' }, 1002),
  listOf({ kind: 'decimal', precision: 20, scale: 3 }, 1003),
]
const fields: Field[] = [
  field(1, { kind: 'long' }, true),
  ...TYPES.map((type, index) => ({ ...field(index + 10, type), name: `c${index + 10}` })),
]

/** The type's Parquet column as pyarrow prints it, without repetition, id and name. */
const PRINTED: Readonly<Record<string, string>> = {
  boolean: 'boolean',
  int: 'int32',
  long: 'int64',
  float: 'float',
  double: 'double',
  date: 'int32 (Date)',
  time: 'int64 (Time(isAdjustedToUTC=false, timeUnit=microseconds))',
  timestamp:
    'int64 (Timestamp(isAdjustedToUTC=false, timeUnit=microseconds, is_from_converted_type=false, force_set_converted_type=false))',
  timestamptz:
    'int64 (Timestamp(isAdjustedToUTC=true, timeUnit=microseconds, is_from_converted_type=false, force_set_converted_type=false))',
  string: 'binary (String)',
  uuid: 'fixed_len_byte_array(16) (UUID)',
  binary: 'binary',
  fixed: 'fixed_len_byte_array(5)',
}

/** FIXED widths by precision (Iceberg spec, appendix A: minimum bytes). */
function decimalPrinted(precision: number, scale: number): string {
  const widths = [9, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 16]
  const physical = precision <= 9 ? 'int32' : precision <= 18 ? 'int64' : `fixed_len_byte_array(${widths[precision - 19]})`
  return `${physical} (Decimal(precision=${precision}, scale=${scale}))`
}

let directory: string
let path: string
let file: EncodedParquet
let rows: Value[][]

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'parquet-'))
  path = join(directory, 'all types.parquet')
  // Of a fixed seed: what pyarrow says of it is compared below.
  rows = fc.sample(fc.tuple(...fields.map(({ type, required }) => cell(type, required))), { numRuns: 500, seed: 7 })
  const rowIds = Float64Array.from(rows, (_, row) => (row % 2 ? row * 1e9 : -1))
  file = encodeParquet(
    { rows: toBatch(fields, rows), rowIds, lastUpdated: null },
    { fields, identifierFieldIds: [1] },
    { rowGroupRows: 200 },
  )
  await writeFile(path, joinBytes(file.bytes))
})
afterAll(() => rm(directory, { recursive: true }))

describe('files written', () => {
  it('have the columns, ids and annotations that Iceberg wants', () => {
    const printed = python(`import pyarrow.parquet as pq; print(json.dumps(str(pq.ParquetFile(path).schema)))`, path) as string
    for (const { id, name, type, required } of fields) {
      const ids = `field_id=${id} ${name}`
      if (type.kind === 'list') {
        expect(printed).toContain(`optional group ${ids} (List) {\n    repeated group field_id=-1 list {\n      optional `)
        expect(printed).toContain(columnLine(type.element, type.elementId, 'element'))
      } else expect(printed).toContain(`${required ? 'required' : 'optional'} ${columnLine(type, id, name)}`)
    }
    expect(printed).toContain('optional int64 field_id=2147483540 _row_id;')
  })

  it('give pyarrow and DuckDB the rows that went in', () => {
    const script = `
import pyarrow.parquet as pq, duckdb
columns = ['column 1', 'c11', 'c19', 'c21', '_row_id']
arrow = pq.read_table(path).select(columns).to_pylist()
duck = duckdb.sql(f"select \\"column 1\\", c11, c19, c21, _row_id from read_parquet('{path}', file_row_number = true) order by file_row_number").fetchall()
row = lambda r: [str(r[0]), r[1], r[2], None if r[3] is None else r[3].hex(), r[4]]
print(json.dumps([[row(list(r.values())) for r in arrow], [row(r) for r in duck]]))`
    const [arrow, duck] = python(script, path) as unknown[][]
    const expected = rows.map((row, index) => {
      const bytes = row[12] as Uint8Array | null
      return [String(row[0]), row[2], row[10], bytes && Buffer.from(bytes).toString('hex'), index % 2 ? index * 1e9 : null]
    })
    expect(arrow).toEqual(expected)
    expect(duck).toEqual(expected)
  })

  it('give both the same of many pages, dictionaries, runs and nested columns', async () => {
    const element = structOf({ ...field(11, { kind: 'string' }), name: 'x' })
    const wide: Field[] = [
      { ...field(1, { kind: 'long' }, true), name: 'id' },
      { ...field(2, { kind: 'string' }), name: 'few' },
      { ...field(3, { kind: 'string' }), name: 'many' },
      { ...field(4, listOf({ kind: 'long' }, 5)), name: 'longs' },
      {
        ...field(6, structOf({ ...field(7, listOf(element, 10)), name: 'parts' }, { ...field(12, { kind: 'int' }), name: 'n' })),
        name: 'nested',
      },
      { ...field(13, { kind: 'decimal', precision: 25, scale: 2 }), name: 'price' },
    ]
    const gap = (row: number, every: number, value: Value): Value => (row % every === 0 ? null : value)
    const many: Value[][] = Array.from({ length: 20_000 }, (_, row) => [
      BigInt(row),
      gap(row, 7, `colour ${row % 300}`),
      gap(row, 5, `${row} `.repeat(row % 60)),
      gap(
        row,
        13,
        Array.from({ length: row % 23 }, (_, index) => gap(row + index, 4, BigInt(row * index))),
      ),
      gap(row, 17, [
        gap(
          row,
          6,
          Array.from({ length: row % 5 }, () => gap(row, 4, [`part ${row % 9}`])),
        ),
        row < 9000 ? 1 : row >> 5,
      ]),
      gap(row, 3, -(10n ** 20n) + BigInt(row % 1000)),
    ])
    const other = join(directory, 'many.parquet')
    const written = encodeParquet({ rows: toBatch(wide, many), rowIds: null, lastUpdated: null }, { fields: wide, identifierFieldIds: [1] })
    await writeFile(other, joinBytes(written.bytes))
    const script = `
import pyarrow.parquet as pq, duckdb
nested = lambda v: None if v is None else [None if v['parts'] is None else [None if p is None else [p['x']] for p in v['parts']], v['n']]
price = lambda v: None if v is None else str(int(v.scaleb(2)))
row = lambda r: [r[0], r[1], r[2], r[3], nested(r[4]), price(r[5])]
arrow = [row(list(r.values())) for r in pq.read_table(path).to_pylist()]
duck = [row(r) for r in duckdb.sql(f"select * from read_parquet('{path}') order by id").fetchall()]
print(json.dumps([arrow, duck]))`
    const [arrow, duck] = python(script, other) as [unknown[][], unknown[][]]
    const number = (value: Value): unknown => (typeof value === 'bigint' ? Number(value) : Array.isArray(value) ? value.map(number) : value)
    const expected = many.map((row) => [...row.slice(0, 5).map(number), row[5] && String(row[5])])
    const differing = (read: unknown[][]) => read.filter((row, index) => !isDeepStrictEqual(row, expected[index])).slice(0, 3)
    expect([arrow.length, duck.length]).toEqual([many.length, many.length])
    expect([differing(arrow), differing(duck)]).toEqual([[], []])
  })

  it('have the metrics that pyarrow finds', () => {
    const script = `
import pyarrow.parquet as pq, pyarrow.compute as pc, struct, decimal
f = pq.ParquetFile(path)
offsets = []
sizes = [0] * f.metadata.num_columns
for g in range(f.metadata.num_row_groups):
    columns = [f.metadata.row_group(g).column(c) for c in range(f.metadata.num_columns)]
    offsets.append(min(c.dictionary_page_offset or c.data_page_offset for c in columns))
    sizes = [a + c.total_compressed_size for a, c in zip(sizes, columns)]
def single(value, type):
    import pyarrow as pa
    if pa.types.is_boolean(type): return struct.pack('<?', value)
    if pa.types.is_floating(type): return struct.pack('<f' if type.bit_width == 32 else '<d', value)
    if pa.types.is_decimal(type):
        unscaled = int(value.scaleb(type.scale, decimal.Context(prec=80)))
        return unscaled.to_bytes(max(1, ((unscaled if unscaled >= 0 else ~unscaled).bit_length() + 8) // 8), 'big', signed=True)
    return struct.pack('<i' if type.bit_width == 32 else '<q', value)
bounds = {}
table = f.read()
for name in table.column_names:
    import pyarrow as pa
    column = table[name]
    id = table.schema.field(name).metadata[b'PARQUET:field_id'].decode()
    if pa.types.is_list(column.type): continue
    nulls = column.null_count
    has_nan = pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py()
    if has_nan: column = column.filter(pc.invert(pc.is_nan(column)))
    if isinstance(column.type, pa.UuidType):
        bounds[id] = [nulls, None, None]
        continue
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type) or pa.types.is_fixed_size_binary(column.type):
        values = [v for v in column.to_pylist() if v is not None]
        low, high = [v.encode() if isinstance(v, str) else v for v in (min(values), max(values))]
    else:
        if pa.types.is_temporal(column.type): column = column.cast(pa.int32() if column.type == pa.date32() else pa.int64())
        m = pc.min_max(column).as_py()
        low, high = single(m['min'], column.type), single(m['max'], column.type)
    bounds[id] = [nulls, low.hex(), None if has_nan else high.hex()]
print(json.dumps([offsets, sizes, bounds]))`
    const [offsets, sizes, bounds] = python(script, path) as [number[], number[], Record<string, [number, string | null, string | null]>]
    expect(file.metrics.splitOffsets).toEqual(offsets)
    expect(ascending(Object.values(file.metrics.columnSizes))).toEqual(ascending(sizes))
    const hex = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes).toString('hex'))
    for (const [id, [nulls, lower, upper]] of Object.entries(bounds)) {
      const { nullCounts, lowerBounds, upperBounds } = file.metrics
      expect([id, nullCounts[Number(id)]]).toEqual([id, nulls])
      if (lower === null) expect([id, lowerBounds[Number(id)]]).toEqual([id, undefined])
      else if (isTruncated(Number(id), lower)) expect(lower.startsWith(hex(lowerBounds[Number(id)])!)).toBe(true)
      else expect([id, hex(lowerBounds[Number(id)])]).toEqual([id, lower])
      const bound = hex(upperBounds[Number(id)])
      if (upper === null) expect([id, bound]).toEqual([id, undefined])
      else if (isTruncated(Number(id), upper)) expect(bound === undefined || bound > upper).toBe(true)
      else expect([id, bound]).toEqual([id, upper])
    }
  })
})

describe("other writers' files", () => {
  it.each(['none', 'dictionary and large types', 'nanoseconds, milliseconds and old annotations'])('are read: %s', async (variant) => {
    const other = join(directory, `${variant}.parquet`)
    const expected = python(writerScript(variant), other) as (string | number | null | (number | null)[])[][]
    const wanted: Field[] = [
      field(1, { kind: 'long' }),
      field(2, { kind: 'string' }),
      field(3, { kind: 'decimal', precision: 30, scale: 2 }),
      field(4, { kind: 'timestamptz' }),
      field(5, { kind: 'uuid' }),
      field(6, listOf({ kind: 'long' }, 7)),
      field(8, { kind: 'time' }),
      field(9, { kind: 'double' }),
    ]
    const bytes = new Uint8Array(await readFile(other))
    const windows = planScan({ bytes }, wanted, null)
    const read = windows.flatMap((window) => toRows(readWindow({ bytes }, window, wanted, null).rows)).map((row) => row.map(plain))
    expect(read).toEqual(expected)
    const fetched = toRows(fetchRows({ path: other }, Uint32Array.of(3, 2500), wanted)).map((row) => row.map(plain))
    expect(fetched).toEqual([expected[3], expected[2500]])
  })
})

function cell(type: FieldType, required: boolean): fc.Arbitrary<Value> {
  // Dates and timestamps within Python's calendar, so that nothing fails on its side.
  const value =
    type.kind === 'date'
      ? fc.integer({ min: -700_000, max: 2_900_000 })
      : type.kind === 'timestamp' || type.kind === 'timestamptz'
        ? fc.bigInt({ min: -60_000_000_000_000_000n, max: 250_000_000_000_000_000n })
        : anyValue(type)
  return required ? value : fc.option(value)
}

function columnLine(type: FieldType, id: number, name: string): string {
  const printed = type.kind === 'decimal' ? decimalPrinted(type.precision, type.scale) : PRINTED[type.kind]
  const [physical, ...annotation] = printed.split(' ')
  return `${physical} field_id=${id} ${name}${annotation.length === 0 ? '' : ` ${annotation.join(' ')}`};`
}

function ascending(numbers: readonly number[]): number[] {
  return numbers.toSorted((a, b) => a - b)
}

function isTruncated(id: number, hex: string): boolean {
  const kind = fields.find((field) => field.id === id)?.type.kind
  const bytes = Buffer.from(hex, 'hex')
  return (kind === 'string' && Array.from(bytes.toString()).length > 16) || (kind === 'binary' && bytes.length > 16)
}

function plain(value: Value): unknown {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  return Array.isArray(value) ? value.map(plain) : value
}

function writerScript(variant: string): string {
  return `
import pyarrow as pa, pyarrow.parquet as pq, decimal, uuid
variant = ${JSON.stringify(variant)}
n = 3000
null = lambda i, v: None if i % 5 == 4 else v
ids = [null(i, i - 7) for i in range(n)]
texts = [null(i, 'text %d' % (i % 50)) for i in range(n)]
decimals = [null(i, decimal.Decimal(i * 7 - 900).scaleb(-2)) for i in range(n)]
micros = [null(i, (i - 1000) * 1234567000) for i in range(n)]
uuids = [null(i, uuid.UUID(int=i * 2**100 + i).bytes) for i in range(n)]
lists = [null(i, [null(j, j) for j in range(i % 7)]) for i in range(n)]
times = [null(i, i * 1000) for i in range(n)]
doubles = [null(i, i / 4) for i in range(n)]
plain, large, other = [variant.startswith(w) for w in ('none', 'dictionary', 'nano')]
id = lambda name, type, i: pa.field(name, type, metadata={'PARQUET:field_id': str(i)})
text = pa.dictionary(pa.int32(), pa.string()) if large else pa.string()
number = pa.int64() if plain else pa.int32()
unit = 'ns' if other else 'us'
make_list = pa.large_list if large else pa.list_
schema = pa.schema([
  id('d', pa.float64() if plain else pa.float32(), 9), id('x', number, 1), id('t', text, 2), id('n', pa.decimal128(30 if plain else 18 if large else 9, 2), 3),
  id('ts', pa.timestamp(unit, 'UTC'), 4), id('u', pa.uuid() if large else pa.binary(16), 5), id('l', make_list(id('item' if large else 'element', number, 7)), 6),
  id('tm', pa.time32('ms') if other else pa.time64('us'), 8), id('unused', pa.large_string() if large else pa.string_view(), 77)])
ts = [None if v is None else v * (1000 if other else 1) for v in micros]
tm = [None if v is None else v // (1000 if other else 1) for v in times]
columns = [doubles, ids, texts, decimals, ts, uuids, lists, tm, texts]
table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema)], schema=schema)
pq.write_table(table, path, row_group_size=1100, data_page_version='2.0' if large else '1.0', use_dictionary=not other, compression='snappy' if plain else 'zstd',
  use_deprecated_int96_timestamps=plain, use_compliant_nested_type=not large, store_decimal_as_integer=not plain, version='2.6')
text_of = lambda v: None if v is None else str(v)
print(json.dumps([[text_of(ids[i]), texts[i], None if decimals[i] is None else str(int(decimals[i].scaleb(2))), text_of(micros[i]), None if uuids[i] is None else uuids[i].hex(),
  None if lists[i] is None else [text_of(v) for v in lists[i]], text_of(times[i]), doubles[i]] for i in range(n)]))`
}

function python(script: string, path: string): unknown {
  const source = `import json, sys\npath = sys.argv[1]\n${script}`
  return JSON.parse(execFileSync(PYTHON, ['-c', source, path], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 }))
}
