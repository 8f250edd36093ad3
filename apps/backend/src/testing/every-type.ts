/** Types of Postgres with values that their default mapping holds, as SQL; what `everyTypeSetup` makes is among them. */
export const everyType: Readonly<Record<string, readonly string[]>> = {
  bool: ['true', 'false'],
  int2: ['-32768', '32767'],
  int4: ['-2147483648', '2147483647'],
  int8: ['-9223372036854775808', '9223372036854775807'],
  oid: ['0', '4294967295'],
  xid: [`'7'`],
  xid8: [`'18446744073709551615'`, `'0'`],
  cid: [`'3'`],
  tid: [`'(4294967295,65535)'`],
  pg_lsn: [`'16/B374D848'`, `'0/1'`],
  pg_snapshot: [`'10:20:10,14,15'`],
  regclass: [`'pg_class'::regclass`, `'0'`],
  regtype: [`'int4'::regtype`],
  float4: [`'NaN'`, `'-Infinity'`, '0.1', `'-0'`, '3.4028235e38', '1e-45'],
  float8: [`'NaN'`, `'Infinity'`, '0.1', `'-0'`, '1.7976931348623157e308', '5e-324'],
  'numeric(9,2)': ['9999999.99', '-0.01', '0'],
  'numeric(38,10)': ['9999999999999999999999999999.9999999999', '-0.0000000001'],
  'numeric(3,-2)': ['99900', '-100'],
  'numeric(50,3)': ['12345678901234567890123456789012345678901234567.125'],
  numeric: ['1.10', `'NaN'`, `'Infinity'`, `'-Infinity'`, '0.00', '1e100', '-123456789012345678901234567890.0000000001'],
  money: [`'1.23'`, `'-92233720368547758.08'`],
  text: [`''`, `'üñ😀𐍈'`, `E'line\\nbreak'`, `repeat('long ', 2000)`],
  'varchar(10)': [`'ab  '`, `''`],
  'char(6)': [`'ab'`, `''`],
  '"char"': [`'x'`, `''`, `'\\200'`],
  name: [`'a name'`],
  bytea: [`''`, `'\\x00ff10'`, `decode(repeat('ab', 3000), 'hex')`],
  uuid: [`'f79c3e09-677c-4bbd-a479-3f349cb785e7'`],
  json: [`'{"b": 1,  "a" : [1,2]}'`, `'null'`],
  jsonb: [`'{"b": 1, "a": [1, 2.50]}'`, `'null'`],
  jsonpath: [`'$.a[*] ? (@ > 1)'`],
  xml: [`'<a>ü</a>'`, `'<?xml version="1.1"?><a/>'`],
  date: [`'4714-11-24 BC'`, `'5874897-12-31'`, `'0001-12-31 BC'`, `'2000-02-29'`],
  time: [`'24:00:00'`, `'00:00:00.000001'`],
  timetz: [`'24:00:00-15:59:59'`, `'12:00:00.5+05:30'`],
  timestamp: [`'4714-11-24 00:00:00 BC'`, `'294247-01-10 04:00:54.775806'`, `'1969-12-31 23:59:59.999999'`],
  timestamptz: [`'4714-11-24 00:00:00+00 BC'`, `'294247-01-10 04:00:54.775806+00'`, `'2024-02-29 12:00:00.5+05:30'`],
  interval: [`'1 year -1 day'`, `'-1 year -2 mons +3 days -04:05:06.7'`, `'0'`, `'178000000 years'`],
  'bit(11)': [`B'10101010101'`],
  varbit: [`B''`, `B'101'`],
  inet: [`'192.168.0.1'`, `'fe80::1/64'`, `'::ffff:1.2.3.4'`],
  cidr: [`'10.1.2.3/32'`, `'2001:db8::/32'`],
  macaddr: [`'08:00:2b:01:02:03'`],
  macaddr8: [`'08:00:2b:01:02:03:04:05'`],
  point: [`'(1.5,-0.1)'`],
  lseg: [`'[(1,2),(3,4.5)]'`],
  box: [`'(3,4),(1,2)'`],
  path: [`'((1,2),(3,4))'`, `'[(1,2),(3,4)]'`],
  polygon: [`'((1,2),(3,4),(5,6.25))'`],
  line: [`'{1,-1,0.5}'`],
  circle: [`'<(1,2),3.5>'`],
  tsvector: [`'a:1A fat:2B,4C cat:5D'`, `''`],
  tsquery: [`'fat:*A & !(cat | rat) <-> dog'`],
  int2vector: [`'1 -2 3'`, `''`],
  oidvector: [`'1 4294967295'`],
  int4range: [`'empty'`, `'[1,10)'`, `'(,)'`],
  numrange: [`'[1.10,2.000]'`],
  tstzrange: [`'["2024-01-01 10:00+00",)'`],
  textrange: [`textrange('', 'a "quoted", one')`],
  int4multirange: [`'{}'`, `'{[1,3),[7,9)}'`],
  mood: [`'sad'`, `'so "very" happy'`],
  price: ['12.50'],
  email: [`'a@b'`],
  place: [`ROW('a "street", long', 5, '{1,NULL}', NULL)`, `ROW(NULL, NULL, NULL, NULL)`],
  person: [
    `ROW(1, ROW('x', 2.00, '{1}', '2024-01-01'), ARRAY[ROW('y', 3, '{}', '0044-03-15 BC')::place, NULL], '[1,3)', 'pg_class')`,
    `ROW(NULL, NULL, '{}', NULL, NULL)`,
  ],
  'place[]': [`ARRAY[ROW('a', 1, '{1,2}', NULL)::place, NULL, ROW(NULL, NULL, NULL, NULL)::place]`, `'{}'`],
  'int4[]': [`'{}'`, `'{1,NULL,-3}'`],
  'int4[][]': [`'{}'`, `'{{1,2},{3,NULL}}'`],
  'text[]': [`array['', NULL, 'NULL', 'a,b', '{x}', 'q"q', E'back\\\\slash', ' sp ', 'ü😀']`],
  'numeric(12,3)[]': [`'{1.5,NULL,-999999999.999}'`],
  'numeric[]': [`'{1.50,NaN,Infinity,1e50}'`],
  'float8[]': [`'{0.1,NaN,-Infinity,NULL}'`],
  'timestamptz[]': [`'{"2024-01-01 00:00:00+00",NULL}'`],
  'bytea[]': [`array['\\x00ff'::bytea, '', NULL]`],
  'uuid[]': [`'{f79c3e09-677c-4bbd-a479-3f349cb785e7}'`],
  'mood[]': [`ARRAY['sad', NULL]::mood[]`],
  'price[]': [`'{1.50,NULL}'`],
  'grid[]': [`ARRAY['{{1,2}}'::grid, NULL]`],
  'interval[]': [`'{1 day,-1 year 2 hours}'`],
  'int4range[]': [`'{"[1,3)",empty,NULL}'`],
  'box[]': [`'{(3,4),(1,2);(5,6),(7,8)}'`],
  hstore: [`'a=>1, b=>NULL'`, `''`],
  citext: [`'MiXed'`],
  ltree: [`'a.b.c'`],
}

export const everyTypeSetup = `
  CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
  CREATE TYPE mood AS ENUM ('sad', 'so "very" happy');
  CREATE DOMAIN email AS text; CREATE DOMAIN price AS numeric(10, 2); CREATE DOMAIN grid AS int[][];
  CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
  CREATE TYPE place AS (street text, zip numeric(10, 2), tags int[], since date);
  CREATE TYPE person AS (id int, home place, places place[], span int4range, class regclass)`

/** The columns `c0`, `c1`, … in the order of `everyType`. */
export const everyTypeColumns = Object.keys(everyType).map((type, index) => ({ name: `c${index}`, type }))

export const everyTypeDepth = Math.max(...Object.values(everyType).map((values) => values.length))

/** `(id, …)` of one row: each column's value number `round`, null once it has no more. */
export function everyTypeRow(id: number, round: number): string {
  const cells = everyTypeColumns.map(({ type }) => {
    const value = everyType[type][round]
    return value === undefined ? 'NULL' : `(${value})::${type}`
  })
  return `(${[id, ...cells].join(', ')})`
}
