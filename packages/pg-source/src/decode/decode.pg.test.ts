import { valueAt, type Column, type Value } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import type pg from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { readTables } from '../session/catalog-rows.ts'
import { joinTypes, mapColumn, type MappedColumn } from '../types/index.ts'
import { CopyBinaryDecoder } from './copy-binary-decoder.ts'
import { PgoutputDecoder } from './pgoutput-decoder.ts'
import { rowsOf } from './test-tables.test.support.ts'

/** Values at the edges of each type, as SQL literals. */
const edges: Record<string, readonly string[]> = {
  boolean: ['true', 'false'],
  smallint: ['-32768', '32767', '0'],
  integer: ['-2147483648', '2147483647', '-1'],
  bigint: ['-9223372036854775808', '9223372036854775807', '4294967296', '-4294967297', '999999999999999', '1000000000000000'],
  oid: ['0', '4294967295'],
  real: ["'-0'", '1e-40', '3.4028235e38', '1.17549435e-38', '0.1', "'NaN'", "'Infinity'", '16777217', '1e-45', '8388608.5'],
  'double precision': ["'-0'", '5e-324', '1.7976931348623157e308', '0.1', "'NaN'", "'-Infinity'", '123456789012345678', '1e22', '1e23'],
  'numeric(38,10)': [
    '9999999999999999999999999999.9999999999',
    '-9999999999999999999999999999.9999999999',
    '0.0000000001',
    '0',
    '-0.5',
    '10000',
    '79228162514264337593',
  ],
  'numeric(38,0)': [
    '99999999999999999999999999999999999999',
    '-99999999999999999999999999999999999999',
    '18446744073709551616',
    '-18446744073709551616',
  ],
  'numeric(38,38)': ['0.99999999999999999999999999999999999999', '-0.00000000000000000000000000000000000001'],
  'numeric(12,2)': ['9999999999.99', '-0.01', '12.3', '100', '20000.5'],
  'numeric(3,-2)': ['99900', '-100', '151'],
  'numeric(3,5)': ['0.00999', '-0.00001'],
  text: ["''", "'üñ😀𐍈'", "E'line\\nbreak\\ttab'", "'NULL'", "repeat('x', 3000)"],
  'varchar(10)': ["'0123456789'", "''", "'  a '"],
  'char(6)': ["'ab'", "''", "'abcdef'"],
  '"char"': ["'x'", "''", '\'\\200\'::"char"'],
  name: ["'relname'", "''"],
  bytea: ["''", "'\\x00ff10'", "decode(repeat('ab', 2000), 'hex')"],
  date: ["'4714-11-24 BC'", "'5874897-12-31'", "'0001-01-01'", "'0001-12-31 BC'", "'1969-12-31'", "'2000-02-29'", "'10000-01-01'"],
  time: ["'00:00'", "'24:00:00'", "'23:59:59.999999'", "'12:00:00.1'"],
  timestamp: [
    "'4714-11-24 00:00:00 BC'",
    "'294247-01-10 04:00:54.775806'",
    "'1969-12-31 23:59:59.999999'",
    "'2024-02-29 12:00:00.5'",
    "'0044-03-15 12:00 BC'",
  ],
  timestamptz: [
    "'4714-11-24 00:00:00+00 BC'",
    "'294247-01-10 04:00:54.775806+00'",
    "'2024-02-29 12:00:00.5+05:30'",
    "'1883-11-18 12:00:00 America/New_York'",
  ],
  uuid: ["'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "'00000000-0000-0000-0000-000000000000'"],
  json: ['\'{"b": 1,  "a" : [1,2]}\'', "'null'"],
  jsonb: ['\'{"b": 1, "a": [1, 2.50], "aa": {}}\'', '\'"ü"\'', "'null'"],
  mood: ["'sad'", "'so very happy'"],
  'integer[]': ["'{}'", "'{1,NULL,-3}'", "'[1:2]={7,8}'"],
  'text[]': [`array['', NULL, 'NULL', 'a,b', '{x}', 'q"q', E'back\\\\slash', ' sp ']`, "array['ü😀']"],
  'numeric(12,2)[]': ["'{1.5,NULL,-9999999999.99}'"],
  'timestamptz[]': ['\'{"2024-01-01 00:00:00+00",NULL}\''],
  'boolean[]': ["'{t,f,NULL}'"],
  'bytea[]': ["array['\\x00ff'::bytea, '', NULL]"],
  'uuid[]': ["'{f79c3e09-677c-4bbd-a479-3f349cb785e7}'"],
  'date[]': ['\'{2024-01-01,"0044-03-15 BC"}\''],
  'time[]': ["'{12:34:56.7,NULL}'"],
  'double precision[]': ["'{0.1,NaN,-Infinity,NULL}'"],
  'jsonb[]': [`array['{"a": "x\\"y"}'::jsonb, NULL]`],
  'mood[]': ['\'{sad,NULL,"so very happy"}\''],
  'char(3)[]': ["'{a,bcd}'"],
  'name[]': ["'{a,b}'"],
  '"char"[]': ["'{a,NULL}'"],
}

/** Each column's value as SQL that gives the text to compare with; numbers and times as exact integers. */
const referee: Readonly<Record<string, string>> = {
  date: `(c - date '1970-01-01')::text`,
  timestamp: `trunc(extract(julian from c::date) - 2440588)::text || ' ' || (extract(epoch from c::time) * 1000000)::bigint::text`,
  timestamptz: `trunc(extract(julian from (c at time zone 'UTC')::date) - 2440588)::text || ' ' || (extract(epoch from (c at time zone 'UTC')::time) * 1000000)::bigint::text`,
  bytea: `encode(c, 'hex')`,
  // A cast to text would drop the padding.
  'char(6)': `CASE WHEN c IS NOT NULL THEN format('%s', c) END`,
}

const server = withPostgres()
/** Scales that are negative, or larger than the precision. */
const since15 = ['numeric(3,-2)', 'numeric(3,5)']

async function makeTable(client: pg.Client): Promise<MappedColumn[]> {
  const types = Object.keys(edges)
  await client.query(`CREATE TYPE mood AS ENUM ('sad', 'so very happy')`)
  await client.query(`CREATE TABLE edges (${types.map((type, index) => `c${index} ${type}`).join(', ')}, row int PRIMARY KEY)`)
  const depth = Math.max(...Object.values(edges).map((values) => values.length))
  for (let row = 0; row <= depth; row++) {
    // Beyond its last edge a column is null, so nulls fall everywhere.
    const cells = types.map((type) => (edges[type][row] === undefined ? 'NULL' : `(${edges[type][row]})::${type}`))
    await client.query(`INSERT INTO edges VALUES (${[...cells, row].join(', ')})`)
  }
  const [relation] = await readTables(
    { rows: async <T>(sql: string, values: readonly unknown[]) => (await client.query(sql, [...values])).rows as T[] },
    [{ schema: 'public', name: 'edges' }],
  )
  const typeOf = joinTypes(relation.types)
  return relation.columns.map((column) => {
    const source = { ...column, type: typeOf(column.typeOid), required: column.isNotNull, isKey: column.name === 'row' }
    return mapColumn({ schema: 'public', name: 'edges' }, source)
  })
}

/** What Postgres itself says each value is. */
async function expectedTexts(client: pg.Client): Promise<(string | null)[][]> {
  const types = [...Object.keys(edges), 'integer']
  const names = [...Object.keys(edges).map((_, index) => `c${index}`), 'row']
  const exact = names.map((name, index) => (referee[types[index]] ?? 'c::text').replaceAll(/\bc\b/g, name))
  await client.query('SET timezone = UTC; SET extra_float_digits = 3')
  const { rows } = await client.query<(string | null)[]>({
    text: `SELECT ${exact.join(', ')} FROM edges ORDER BY edges.row`,
    rowMode: 'array',
  })
  return rows
}

const DAY_MICROS = 86_400_000_000n

/** A decoded value in the referee's text. */
function printed(type: string, value: Value, column: MappedColumn): string | null {
  if (value === null) return null
  const { kind } = column.field.type
  if (column.field.type.kind === 'list') return null
  if (type === 'bytea' || kind === 'uuid') {
    const hex = Buffer.from(value as Uint8Array).toString('hex')
    return type === 'bytea' ? hex : hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5')
  }
  if (kind === 'timestamp' || kind === 'timestamptz') {
    const micros = value as bigint
    const rest = ((micros % DAY_MICROS) + DAY_MICROS) % DAY_MICROS
    return `${(micros - rest) / DAY_MICROS} ${rest}`
  }
  if (column.field.type.kind === 'decimal') {
    const { scale } = column.field.type
    const unscaled = value as bigint
    const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
    const whole = digits.slice(0, digits.length - scale)
    return `${unscaled < 0n ? '-' : ''}${whole}${scale > 0 ? `.${digits.slice(-scale)}` : ''}`
  }
  return Object.is(value, -0) ? '-0' : String(value)
}

function compare(columns: readonly MappedColumn[], rows: readonly Value[][], expected: readonly (string | null)[][]): void {
  const types = [...Object.keys(edges), 'integer']
  expect(rows.length).toBe(expected.length)
  rows.forEach((row, at) => {
    row.forEach((value, index) => {
      const type = types[index]
      const text = expected[at][index]!
      if (columns[index].field.type.kind === 'list') return
      const isFloat = type === 'real' || type === 'double precision'
      if (isFloat && text !== null) expect([type, value]).toEqual([type, type === 'real' ? Math.fround(Number(text)) : Number(text)])
      else expect([type, printed(type, value, columns[index])]).toEqual([type, text])
    })
  })
}

/** The bytes of a binary COPY, by way of a file of the server, which needs no protocol on our side. */
async function copyOut(client: pg.Client): Promise<Buffer> {
  const { rows: settings } = await client.query<{ dir: string }>(`SELECT current_setting('data_directory') AS dir`)
  await client.query(`COPY (SELECT * FROM edges ORDER BY row) TO '${settings[0].dir}/edges.copy' (FORMAT binary)`)
  const { rows } = await client.query<{ bytes: Buffer }>(`SELECT pg_read_binary_file('edges.copy') AS bytes`)
  return rows[0].bytes
}

describe('values at the edges of every type', () => {
  let client: pg.Client
  let columns: MappedColumn[]
  beforeAll(async () => {
    client = (await server.createDatabase()).client
    if (server.major < 15) for (const type of since15) delete edges[type]
    await client.query(`CREATE PUBLICATION p FOR ALL TABLES`)
    await client.query(`SELECT pg_create_logical_replication_slot('s', 'pgoutput')`)
    columns = await makeTable(client)
  })

  it('are what Postgres prints, through binary COPY and through pgoutput in both forms', async () => {
    const expected = await expectedTexts(client)

    const copy = new CopyBinaryDecoder({ table: { schema: 'public', name: 'edges' }, columns })
    copy.feed(await copyOut(client))
    copy.finish()
    const copied = rowsOf(copy.take()!.rows)
    compare(columns, copied, expected)

    for (const binary of ['true', 'false']) {
      const streamed = await streamOut(client, columns, binary)
      expect(streamed).toEqual(copied)
    }
  })

  it('reads arrays as their elements', async () => {
    const rows = await streamOut(client, columns, 'true')
    const types = Object.keys(edges)
    const valuesOf = (type: string) => rows.map((row) => row[types.indexOf(type)]).filter((value) => value !== null)
    expect(valuesOf('integer[]')).toEqual([[], [1, null, -3], [7, 8]])
    expect(valuesOf('text[]')).toEqual([['', null, 'NULL', 'a,b', '{x}', 'q"q', 'back\\slash', ' sp '], ['ü😀']])
    expect(valuesOf('numeric(12,2)[]')).toEqual([[150n, null, -999999999999n]])
    expect(valuesOf('date[]')).toEqual([[19723, -735160]])
    expect(valuesOf('time[]')).toEqual([['12:34:56.7', null]])
    expect(valuesOf('bytea[]')).toEqual([[Uint8Array.of(0, 255), new Uint8Array(0), null]])
    expect(valuesOf('mood[]')).toEqual([['sad', null, 'so very happy']])
    expect(valuesOf('char(3)[]')).toEqual([['a  ', 'bcd']])
    expect(valuesOf('jsonb[]')).toEqual([['{"a": "x\\"y"}', null]])
  })
})

/** Reads the slot's changes by SQL, which gives the bare messages, and puts them into WAL frames. */
async function streamOut(client: pg.Client, columns: readonly MappedColumn[], binary: string): Promise<Value[][]> {
  await client.query(`SET timezone = UTC; SET datestyle = ISO; SET extra_float_digits = 3; SET bytea_output = hex`)
  const { rows } = await client.query<{ data: Buffer }>(
    `SELECT data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'binary', $1)`,
    [binary],
  )
  const fields = columns.map((column) => column.field)
  const key = fields.at(-1)!.id
  const mirrored = { table: { schema: 'public', name: 'edges' }, columns, schema: { fields, identifierFieldIds: [key] } }
  const decoder = new PgoutputDecoder({ resolve: ({ name }) => (name === 'edges' ? mirrored : null) })
  for (const { data } of rows) decoder.feed(Buffer.concat([Buffer.from('w'), Buffer.alloc(24), data]))
  const [event] = decoder.take()
  if (event?.kind !== 'batch') throw new Error(`expected a batch, not ${JSON.stringify(event, (_, value: unknown) => String(value))}`)
  return Array.from({ length: event.batch.rows.length }, (_, row) => event.batch.rows.columns.map((column: Column) => valueAt(column, row)))
}
