import { ColumnBuilder, valueAt, type Value } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { readTables } from '../session/catalog-rows.ts'
import { defaultMapping, mapColumn, type MappedColumn } from './mapping.ts'
import { joinTypes } from './source-type.ts'

/**
 * The binary form of every type, sent by a real Postgres, rendered as text, is the text that this Postgres prints; and both forms give the
 * same value of the Iceberg type.
 */
const server = withPostgres()
let client: pg.Client

/** Types and queries that give values of them, in the column `v`. */
const values: Readonly<Record<string, string>> = {
  bool: `VALUES (true), (false)`,
  int2: `VALUES (-32768), (32767), (0)`,
  int4: `VALUES (-2147483648), (2147483647), (0), (-7)`,
  int8: `VALUES (-9223372036854775808), (9223372036854775807), (0), (-10000000000)`,
  oid: `VALUES (0), (4294967295)`,
  xid: `VALUES ('0'), ('4294967295')`,
  cid: `VALUES ('0'), ('4294967295')`,
  xid8: `VALUES ('0'), ('18446744073709551615'), ('9223372036854775808')`,
  tid: `VALUES ('(0,1)'), ('(4294967295,65535)')`,
  pg_lsn: `VALUES ('0/0'), ('16/B374D848'), ('FFFFFFFF/FFFFFFFF'), ('0/1')`,
  pg_snapshot: `VALUES ('1:1:'), ('10:20:10,14,15'), ('10:9223372036854775807:')`,
  txid_snapshot: `VALUES ('10:20:10,14,15')`,
  float4: `SELECT (random() - 0.5) * 10.0 ^ (random() * 70 - 35) FROM generate_series(1, 3000)
    UNION ALL SELECT round((random() * 1000)::numeric, (random() * 4)::int) FROM generate_series(1, 500)
    UNION ALL SELECT (trunc(random() * 8388608) + f / 8.0)::float4 / s FROM generate_series(0, 7) f, generate_series(1, 100), unnest(array[1, 4, 16]) s
    UNION ALL SELECT 2.0 ^ e FROM generate_series(-126, 127) e UNION ALL SELECT 2.0 ^ -126 * f / 8388608 FROM generate_series(1, 100) f
    UNION ALL SELECT unnest('{NaN,Infinity,-Infinity,0,-0,1,1e6,999999,1e5,1e-4,1e-5,3.4028235e38,1e-45,16777216,8388608,0.1,33554432,1.17549435e-38}'::float4[])`,
  float8: `SELECT (random() - 0.5) * 10.0::float8 ^ (random() * 600 - 300) FROM generate_series(1, 4000)
    UNION ALL SELECT round((random() * 100000)::numeric, (random() * 8)::int) FROM generate_series(1, 500)
    UNION ALL SELECT 2.0::float8 ^ e FROM generate_series(-1022, 1023) e
    UNION ALL SELECT ((2.0::float8 ^ 48 * (1 + 15 * random()))::int8::float8 + f / 8.0) FROM generate_series(0, 7) f, generate_series(1, 200)
    UNION ALL SELECT ((2.0::float8 ^ 50 * (1 + random()))::int8::float8 + f / 4.0) FROM generate_series(0, 3) f, generate_series(1, 500)
    UNION ALL SELECT (trunc(random() * 2 ^ 40) * 2.0::float8 ^ e) FROM generate_series(10, 90) e, generate_series(1, 40)
    UNION ALL SELECT (9007199254740992 + 2 * k)::float8 * 2.0 ^ e FROM generate_series(0, 300) k, generate_series(0, 12) e
    UNION ALL SELECT unnest('{NaN,Infinity,-Infinity,0,-0,1,1e15,999999999999999,123456789012345,1e14,1e-4,1e-5,1.7976931348623157e308,5e-324,9007199254740993,0.1,123456789012345680,1e22,1e23}'::float8[])`,
  numeric: `SELECT ((random() - 0.5) * 10.0 ^ (random() * 40))::numeric(60, 20) FROM generate_series(1, 300)
    UNION ALL SELECT unnest('{NaN,Infinity,-Infinity,0,0.00,-0.5,1.10,10000,0.0001,0.00010000,-12345.6789000,1e100,1e-100,9999,10000.0000,123456789012345678901234567890.5}'::numeric[])
    UNION ALL SELECT 10::numeric ^ 1000 + 0.001 UNION ALL SELECT repeat('12345', 3000)::numeric`,
  date: `SELECT '2000-01-01'::date + (random() * 8000000 - 2400000)::int FROM generate_series(1, 500)
    UNION ALL SELECT unnest('{infinity,-infinity,4714-11-24 BC,0001-12-31 BC,0001-01-01,5874897-12-31,2000-02-29,10000-01-01,0005-02-29 BC}'::date[])`,
  time: `VALUES ('00:00'), ('24:00:00'), ('23:59:59.999999'), ('12:00:00.1'), ('00:00:00.000001'), ('12:30:15.10')`,
  timetz: `VALUES ('00:00+00'), ('24:00:00-15:59:59'), ('23:59:59.999999+05:30'), ('12:00-08'), ('12:00:00.5+01:02:03'), ('12:00+15:59'), ('01:00-00:30'), ('01:00-00:00:30')`,
  timestamp: `SELECT '2000-01-01'::timestamp + (random() * 8000000 - 2400000)::int * interval '1 day 1.000001 second' FROM generate_series(1, 300)
    UNION ALL SELECT unnest('{infinity,-infinity,"4714-11-24 00:00:00 BC","0044-03-15 12:00 BC","0001-01-01","294276-12-31 23:59:59.999999","1999-12-31 23:59:59.999999","294247-01-10 04:00:54.775807"}'::timestamp[])`,
  timestamptz: `VALUES ('infinity'), ('-infinity'), ('4714-11-24 00:00:00+00 BC'), ('294276-12-31 23:59:59.999999+00'), ('2024-02-29 12:00:00.5+05:30'), ('1883-11-18 12:00:00 America/New_York')`,
  interval: `SELECT make_interval(months => (random() * 60 - 30)::int, days => (random() * 60 - 30)::int, secs => (random() * 200000 - 100000)) FROM generate_series(1, 300)
    UNION ALL SELECT unnest('{0,1 year,-1 year,1 mon,-1 mon,13 mons,-13 mons,1 day,-1 day,1 day -00:00:01,-1 day 00:00:01,1 year -1 day,-1 year 1 day,-1 year -1 day 1 sec,1 year 2 mons -3 days 04:05:06.7,178000000 years,-178000000 years,2147483647 days,-2147483648 days,2562047788:00:54.775807,-2562047788:00:54.775807,0.000001 sec,-0.000001 sec,infinity,-infinity}'::interval[])`,
  money: `VALUES ('0'), ('1.23'), ('-1.23'), ('92233720368547758.07'), ('-92233720368547758.08'), ('1234567.89')`,
  bytea: `VALUES (''), ('\\x00ff10'), (decode(repeat('ab', 2000), 'hex'))`,
  '"char"': `VALUES ('x'), (''), ('\\200')`,
  name: `VALUES ('a name'), ('')`,
  text: `VALUES (''), ('üñ😀𐍈'), (E'line\\nbreak'), (repeat('x', 3000))`,
  'char(6)': `VALUES ('ab'), (''), ('abcdef')`,
  'varchar(5)': `VALUES ('ab  '), ('')`,
  uuid: `SELECT gen_random_uuid() FROM generate_series(1, 20)`,
  json: `VALUES ('{"b": 1,  "a" : [1,2]}'), ('null')`,
  jsonb: `VALUES ('{"b": 1,  "a" : [1,2.50]}'), ('null')`,
  jsonpath: `VALUES ('$.a[*] ? (@ > 1)'), ('strict $."b c"')`,
  xml: `VALUES ('<a>ü</a>'), ('<?xml version="1.0" encoding="UTF-8"?><a/>'), ('<?xml version="1.1"?><a/>'), ('<?xml version="1.0" standalone="yes"?><a/>'), ('text')`,
  'bit(11)': `VALUES (B'10101010101'), (B'00000000000')`,
  varbit: `VALUES (B''), (B'1'), (B'10000000'), (B'101010101')`,
  inet: `VALUES ('192.168.0.1'), ('192.168.0.1/24'), ('0.0.0.0/0'), ('::'), ('::1'), ('::1.2.3.4'), ('::ffff:1.2.3.4'), ('::2'), ('::1:2'), ('fe80::1/64'), ('1::'), ('1:0:0:2:0:0:0:3'), ('1:0:2:0:3:0:4:0'), ('2001:db8::ff00:42:8329/128'), ('1:2:3:4:5:6:7:8'), ('0:0:0:0:0:ffff::'), ('::ffff:0:0'), ('0:0:1::'), ('::1:0:0')`,
  cidr: `VALUES ('192.168.0.0/24'), ('10.1.2.3/32'), ('::/0'), ('2001:db8::/32'), ('::1/128'), ('::ffff:1.2.3.0/120')`,
  macaddr: `VALUES ('08:00:2b:01:02:03'), ('ff:ff:ff:ff:ff:ff')`,
  macaddr8: `VALUES ('08:00:2b:01:02:03:04:05')`,
  point: `VALUES ('(1,2)'), ('(1.5e300,-0.1)'), ('(NaN,Infinity)')`,
  lseg: `VALUES ('[(1,2),(3,4.5)]')`,
  box: `VALUES ('(3,4),(1,2)')`,
  path: `VALUES ('((1,2),(3,4))'), ('[(1,2),(3,4),(5,6)]')`,
  polygon: `VALUES ('((1,2),(3,4),(5,6.25))')`,
  line: `VALUES ('{1,-1,0.5}')`,
  circle: `VALUES ('<(1,2),3.5>')`,
  tsvector: `VALUES (''), ('a fat cat'), ('a:1A fat:2B,4C cat:5D'), ($$'it''s' 'back\\\\slash':3 'sp ace'$$)`,
  tsquery: `VALUES (''), ('a'), ('!a'), ('!!a'), ('a & b | c'), ('a & (b | c)'), ('!(a & b)'), ('a <-> b'), ('a <3> b <-> c'), ('a <-> (b <-> c)'), ('(a | b) <-> c'), ('fat:ab & cat:*'), ('fat:*A'), ('!a <-> b'), ('!(a <-> b) & c'), ('(a & b) | !(c | d)'), ($$'it''s' & 'back\\\\slash'$$), ('a <0> b')`,
  int2vector: `VALUES (''), ('1'), ('1 -2 3')`,
  oidvector: `VALUES (''), ('1 4294967295')`,
  refcursor: `VALUES ('cursor')`,
  int4range: `VALUES ('empty'), ('[1,10)'), ('(,5]'), ('(,)'), ('[3,)')`,
  int8range: `VALUES ('[-5,10)')`,
  numrange: `VALUES ('[1.10,2.000]'), ('(1.5,]')`,
  daterange: `VALUES ('[2024-01-01,2024-02-01)'), ('[-infinity,infinity]'), ('[0044-03-15 BC,)')`,
  tsrange: `VALUES ('["2024-01-01 10:00","2024-02-01 11:30:00.5")')`,
  tstzrange: `VALUES ('["2024-01-01 10:00+00",)'), ('[,infinity]')`,
  int4multirange: `VALUES ('{}'), ('{[1,3),[7,9)}')`,
  tsmultirange: `VALUES ('{["2024-01-01 10:00","2024-02-01 11:30:00.5"),(2025-01-01,)}')`,
  textrange: `VALUES (textrange('a', 'b')), (textrange('', 'a "quoted", one')), (textrange('a\\b', 'c(d)')), (textrange('[', 'x', '[]'))`,
  mood: `VALUES ('sad'), ('so "very" happy')`,
  email: `VALUES ('a@b'), ('c')`,
  place: `SELECT unnest(ARRAY[ROW('a street, long', 5, NULL), ROW('', NULL, '{1,NULL}'::int[]), ROW(NULL, NULL, NULL), ROW('q"u\\o(t)e', 1.50, '{}'::int[])]::place[])`,
  nested: `VALUES (ROW(1, ROW('x', 2.00, '{1}'), ARRAY[ROW('y "z"', 3, NULL)::place, NULL], '[1,3)', '2024-01-01')::nested)`,
  'place[]': `VALUES (ARRAY[ROW('a', 1, '{1,2}')::place, NULL]), ('{}')`,
  'int4[]': `VALUES ('{}'), ('{1,NULL,-3}'), ('[0:1]={7,8}'), ('{{1,2},{3,NULL}}'), ('[-1:0][2:3]={{1,2},{3,4}}'), ('{{{1}}}')`,
  'text[]': `VALUES (array['', NULL, 'NULL', 'null', 'a,b', '{x}', 'q"q', E'back\\\\slash', ' sp ', E'tab\\t', E'vt\\v', 'ü😀']), ('{{a,b},{c,d}}')`,
  'float8[]': `VALUES ('{0.1,NaN,-Infinity,NULL,1e22}')`,
  'timestamptz[]': `VALUES ('{"2024-01-01 00:00:00+00",NULL}')`,
  'bytea[]': `VALUES (array['\\x00ff'::bytea, '', NULL])`,
  'box[]': `VALUES ('{(3,4),(1,2);(5,6),(7,8)}')`,
  'mood[]': `VALUES (ARRAY['sad', NULL, 'so "very" happy']::mood[])`,
  'email[]': `VALUES (ARRAY['a@b', NULL]::email[])`,
  'int4range[]': `VALUES (ARRAY['[1,3)', 'empty', NULL]::int4range[])`,
  'jsonb[]': `VALUES (array['{"a": "x\\"y"}'::jsonb, NULL])`,
  'interval[]': `VALUES ('{1 day,-1 year 2 hours}')`,
  hstore: `VALUES (''), ('a=>1, b=>NULL'), ($$"it's"=>"a \\"quoted\\" one", "back\\\\slash"=>""$$)`,
  citext: `VALUES ('MiXed'), ('')`,
  ltree: `VALUES ('a.b.c'), ('')`,
  lquery: `VALUES ('a.*{1,2}.c|d')`,
  cube: `VALUES ('(1,2),(3,4)')`,
  regclass: `VALUES ('pg_class'::regclass), ('pg_type'::regclass)`,
  regtype: `VALUES ('int4')`,
  aclitem: `VALUES ('=r/postgres')`,
}

interface Column {
  readonly name: string
  readonly type: string
  readonly native: MappedColumn
  readonly asText: MappedColumn
}

const columns = new Map<string, Column>()

beforeAll(async () => {
  client = (await server.createDatabase()).client
  await client.query(`SET datestyle = ISO; SET intervalstyle = postgres; SET bytea_output = hex; SET extra_float_digits = 3; SET timezone = UTC;
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube;
    CREATE TYPE mood AS ENUM ('sad', 'so "very" happy'); CREATE DOMAIN email AS text; CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
    CREATE TYPE place AS (street text, zip numeric(10, 2), tags int[]);
    CREATE TYPE nested AS (id int, home place, places place[], span int4range, since date)`)
  const types = Object.keys(values)
  await client.query(`CREATE TABLE everything (${types.map((type, index) => `c${index} ${type}`).join(', ')})`)
  const query = async <T>(sql: string, parameters: readonly unknown[]) => (await client.query(sql, [...parameters])).rows as T[]
  const table = { schema: 'public', name: 'everything' }
  const [relation] = await readTables({ rows: query }, [table])
  const typeOf = joinTypes(relation.types)
  for (const [index, column] of relation.columns.entries()) {
    const source = { ...column, type: typeOf(column.typeOid), required: false, isKey: false }
    const policy = { ...defaultMapping.policy, columns: { 'public.everything': { [column.name]: { as: 'string' } } } }
    columns.set(types[index], {
      name: column.name,
      type: types[index],
      native: mapColumn(table, source),
      asText: mapColumn(table, source, { ...defaultMapping, policy }),
    })
  }
})

/** Values of a column in both forms, as COPY and pgoutput send them. */
async function forms(type: string): Promise<{ readonly text: string; readonly binary: Buffer | null }[]> {
  const { rows: binaries } = await client.query<{ out: string; send: string }>(
    `SELECT t.typoutput::oid::regproc::text AS out, CASE WHEN t.typsend <> 0 THEN t.typsend::oid::regproc::text ELSE '' END AS send
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = 'everything'::regclass AND a.attname = $1`,
    [columns.get(type)!.name],
  )
  const send = binaries[0].send === '' ? 'NULL::bytea' : sendCall(binaries[0].send)
  const given = type === 'interval' ? intervals(values[type]) : values[type]
  const { rows } = await client.query<{ text: string; binary: Buffer | null }>(
    `SELECT format('%s', v) AS text, ${send} AS binary FROM (SELECT v::${type} FROM (${given}) AS given(v)) AS typed`,
  )
  return rows
}

/** As many of them as the server has: the longest times came with 15, infinities with 17. */
function intervals(given: string): string {
  const older = server.major < 17 ? given.replace(',infinity,-infinity', '') : given
  return server.major < 15 ? older.replaceAll(/,-?2562047788:00:54.775807/g, '') : older
}

function sendCall(send: string): string {
  return send === 'textsend' ? `textsend(v::text)` : `${send}(v)`
}

function decode(column: MappedColumn, form: 'binary' | 'text', bytes: Buffer): Value {
  const builder = new ColumnBuilder(column.field.type)
  try {
    column.decoder[form](bytes, 0, bytes.length, builder)
  } catch (error) {
    if (error instanceof Error && error.name === 'BadValueError') return 'unfit'
    throw error
  }
  return valueAt(builder.view(), 0)
}

describe.each(Object.keys(values))('%s', (type) => {
  test('is rendered as Postgres prints it, and both forms hold the same value', async () => {
    const { native, asText } = columns.get(type)!
    const found = await forms(type)
    expect(found.length).toBeGreaterThan(0)
    for (const { text, binary } of found) {
      if (binary !== null && asText.copyForm === 'binary') expect(decode(asText, 'binary', binary)).toBe(text)
      expect(decode(asText, 'text', Buffer.from(text))).toBe(text)
      if (binary === null || native.streamForm !== 'any') continue
      expect([text, decode(native, 'binary', binary)]).toEqual([text, decode(native, 'text', Buffer.from(text))])
    }
  })
})
