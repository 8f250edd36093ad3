import fc from 'fast-check'
import type { Oid } from './oids.ts'

/** Values of types, as SQL. */
export interface DrawnType {
  /** How a column is declared. */
  readonly declared: fc.Arbitrary<string>
  readonly value: fc.Arbitrary<string>
  /** Instead of `value`, where not each fits what is declared. */
  readonly fitting?: (declared: string) => fc.Arbitrary<string>
}

const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`
const literal = (text: fc.Arbitrary<string>) => text.map(quoted)
const integer = (min: bigint, max: bigint) =>
  fc
    .oneof(fc.bigInt({ min, max }), fc.bigInt({ min: min < -99n ? -99n : min, max: min < 0n ? 99n : min + 99n }), fc.constantFrom(min, max))
    .map(String)
const joined = (...parts: fc.Arbitrary<string>[]) => fc.tuple(...parts).map((texts) => texts.join(''))
const among = (...texts: string[]) => fc.constantFrom(...texts)
const digits = (min: number, max: number) => fc.stringMatching(new RegExp(`^[0-9]{${min},${max}}$`))
const hex = (min: number, max = min) => fc.stringMatching(new RegExp(`^[0-9a-f]{${min},${max}}$`))

const AWKWARD = ['', ' ', '"', "'", '\\', ',', '(', ')', '{', '}', '[', 'NULL', 'null', '\n', '\t', '\v', '\u0001', '\u00a0', '\u2003', 'ü', '😀', '=>', ':', '&'] // prettier-ignore
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }).map((drawn) => drawn.replaceAll('\0', '')),
  fc.array(fc.constantFrom(...AWKWARD, 'a', 'B'), { maxLength: 6 }).map((parts) => parts.join('')),
)
const word = fc.stringMatching(/^[A-Za-z0-9_]{1,8}$/)
const bits = (max: number) => fc.stringMatching(new RegExp(`^[01]{0,${max}}$`))
const float = (drawn: fc.Arbitrary<number>) => drawn.map((value) => (Object.is(value, -0) ? '-0' : String(value)))
const double = float(
  fc.oneof(
    fc.double(),
    fc.integer().map((value) => value / 8),
  ),
)
const size = float(fc.double({ min: 0, noNaN: true }))
const point = joined(among('('), double, among(','), double, among(')'))
const points = (min: number) => fc.array(point, { minLength: min, maxLength: 5 }).map((all) => all.join(','))
const range = (min: number, max: number) => fc.integer({ min, max }).map(String)

const zone = fc
  .tuple(fc.constantFrom('+', '-'), fc.integer({ min: 0, max: 57_599 }), fc.constantFrom(1, 60, 3600))
  .map(([sign, seconds, unit]) => sign + clockOf(seconds - (seconds % unit)))
const clockOf = (seconds: number) =>
  [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, '0')).join(':')
const clock = fc.oneof(
  { weight: 1, arbitrary: among('24:00:00', '00:00:00') },
  { weight: 5, arbitrary: joined(fc.integer({ min: 0, max: 86_399 }).map(clockOf), among('.'), digits(1, 6)) },
)
const dated = (type: string, last: bigint) =>
  fc.oneof(
    { weight: 1, arbitrary: among(`'infinity'::${type}`, `'-infinity'::${type}`) },
    { weight: 6, arbitrary: integer(-2_451_545n, last).map((days) => `('2000-01-01'::date + (${days}))`) },
    { weight: 6, arbitrary: integer(-40_000n, 40_000n).map((days) => `('2000-01-01'::date + (${days}))`) },
  )
/** Until 294276-12-31. */
const LAST_DAY = 106_751_982n
const moment = fc
  .tuple(dated('timestamp', LAST_DAY), clock)
  .map(([day, time]) => (day.includes('inf') ? day : `(${day} + '${time.replace('24:', '00:')}'::time)`))

const jsonText = (isBinary: boolean) =>
  fc.json({ maxDepth: 3, stringUnit: 'grapheme' }).map((json) => (isBinary ? json.replaceAll('\\u0000', '') : ` ${json}`))
const { query: tsquery } = fc.letrec<{ query: string }>((tie) => ({
  query: fc.oneof(
    { maxDepth: 4 },
    joined(
      fc.string({ unit: fc.constantFrom('a', 'ü', "'", '\\', ' ', '&'), minLength: 1, maxLength: 4 }).map(lexeme),
      among('', '', ':*', ':A', ':BC', ':*D'),
    ),
    joined(among('!'), tie('query')),
    joined(among('('), tie('query'), among(' & ', ' | ', ' <-> ', ' <3> ', ' <0> '), tie('query'), among(')')),
  ),
}))

function lexeme(content: string): string {
  return `'${content.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

/** Positions of a lexeme; nothing where it has none. */
const positions = fc
  .array(joined(fc.integer({ min: 1, max: 16_383 }).map(String), among('', 'A', 'B', 'C', 'D')), { maxLength: 3 })
  .map((all) => (all.length === 0 ? '' : `:${all.join(',')}`))
const tsvector = fc
  .array(
    joined(fc.string({ unit: fc.constantFrom('a', 'b', 'ü', "'", '\\', ' ', ':'), minLength: 1, maxLength: 5 }).map(lexeme), positions),
    { maxLength: 5 },
  )
  .map((all) => all.join(' '))

/** Of odd transactions, since none ends with 32 zeros. */
const snapshot = fc.uniqueArray(fc.bigInt({ min: 0n, max: 2n ** 60n }), { minLength: 1, maxLength: 4 }).map((halves) => {
  const ids = halves.map((half) => 2n * half + 1n).sort((a, b) => (a < b ? -1 : 1))
  return `${ids[0]}:${ids.at(-1)! + 2n}:${ids.slice(1).join(',')}`
})
const address = fc.oneof(fc.ipV4(), fc.ipV6(), among('::', '::1', '::ffff:1.2.3.4', '::1.2.3.4', '1:0:0:2:0:0:0:3', '1:0:2::'))
const network = address.chain((ip) =>
  fc.oneof(
    fc.constant(ip),
    fc.integer({ min: 0, max: ip.includes(':') ? 128 : 32 }).map((mask) => `${ip}/${mask}`),
  ),
)
const number = fc.oneof(
  { weight: 1, arbitrary: among('NaN', 'Infinity', '-Infinity', '0', '-0.000', '1e400', '1e-400') },
  { weight: 4, arbitrary: joined(among('', '-'), digits(1, 45), among('', '.0', '.5', '.00010')) },
  { weight: 4, arbitrary: joined(among('', '-'), digits(1, 9), among('.'), digits(1, 30)) },
)
/** Declared so, numbers have to fit. */
const numerics = fc
  .integer({ min: 1, max: 45 })
  .chain((precision) => fc.tuple(fc.constant(precision), fc.integer({ min: 0, max: precision })))
  .map(([precision, scale]) => `numeric(${precision},${scale})`)

function numberOf(declared: string): fc.Arbitrary<string> {
  const [precision, scale] = [...declared.matchAll(/\d+/g)].map(Number)
  if (precision === undefined) return literal(number)
  const whole = precision === scale ? among('0') : digits(1, precision - scale)
  return literal(
    fc.oneof({ weight: 1, arbitrary: among('NaN') }, { weight: 9, arbitrary: joined(among('', '-'), whole, among('.'), digits(0, scale)) }),
  )
}

const reg = (declared: string): DrawnType => ({
  declared: among(declared),
  value: literal(fc.oneof(integer(0n, 4_294_967_295n), range(0, 20_000))),
})
/** Names that stand for several things can't be read back, so it is none that there is. */
const ambiguousReg = (declared: string): DrawnType => ({ declared: among(declared), value: literal(integer(1_000_000n, 4_294_967_295n)) })
const plain = (declared: string, value: fc.Arbitrary<string>): DrawnType => ({ declared: among(declared), value: literal(value) })
const sized = (declared: string, max: number, value: fc.Arbitrary<string>): DrawnType => ({
  declared: fc.oneof(
    among(declared),
    fc.integer({ min: 1, max }).map((limit) => `${declared}(${limit})`),
  ),
  value,
})

/** Each built-in type; a new one in `Oid` has to be here. */
export const drawnTypes: Readonly<Record<keyof typeof Oid, DrawnType>> = {
  bool: plain('bool', among('t', 'f')),
  bytea: plain(
    'bytea',
    joined(
      among('\\x'),
      hex(0, 40).map((drawn) => drawn.slice(drawn.length % 2)),
    ),
  ),
  char: plain(
    '"char"',
    fc.oneof(
      fc.integer({ min: 1, max: 0x7e }).map((code) => String.fromCharCode(code)),
      among('', '\\200', '\\377', '\\'),
    ),
  ),
  name: plain('name', text),
  int8: plain('int8', integer(-(2n ** 63n), 2n ** 63n - 1n)),
  int2: plain('int2', integer(-32_768n, 32_767n)),
  int2vector: plain(
    'int2vector',
    fc.array(integer(-32_768n, 32_767n), { maxLength: 4 }).map((all) => all.join(' ')),
  ),
  int4: plain('int4', integer(-(2n ** 31n), 2n ** 31n - 1n)),
  regproc: ambiguousReg('regproc'),
  text: plain('text', text),
  oid: plain('oid', integer(0n, 4_294_967_295n)),
  tid: plain('tid', joined(among('('), integer(0n, 4_294_967_295n), among(','), integer(0n, 65_535n), among(')'))),
  xid: plain('xid', integer(0n, 4_294_967_295n)),
  cid: plain('cid', integer(0n, 4_294_967_295n)),
  oidvector: plain(
    'oidvector',
    fc.array(integer(0n, 4_294_967_295n), { maxLength: 4 }).map((all) => all.join(' ')),
  ),
  json: plain('json', jsonText(false)),
  xml: plain(
    'xml',
    joined(among('<a b="1">', '<?xml version="1.0" encoding="UTF-8"?><a>', '<a>'), among('', 'ü', '&lt;', ' <c/> ', '"'), among('</a>')),
  ),
  point: plain('point', point),
  lseg: plain('lseg', joined(among('['), point, among(','), point, among(']'))),
  path: plain('path', fc.oneof(joined(among('['), points(1), among(']')), joined(among('('), points(1), among(')')))),
  box: plain('box', joined(point, among(','), point)),
  polygon: plain('polygon', joined(among('('), points(1), among(')'))),
  line: plain('line', joined(among('{1,', '{-0.5,', '{1e300,'), double, among(','), double, among('}'))),
  cidr: { declared: among('cidr'), value: literal(network).map((drawn) => `network(${drawn}::inet)`) },
  float4: plain(
    'float4',
    float(
      fc.oneof(
        fc.float(),
        fc.integer().map((value) => Math.fround(value / 8)),
      ),
    ),
  ),
  float8: plain('float8', double),
  circle: plain('circle', joined(among('<'), point, among(','), size, among('>'))),
  macaddr8: plain('macaddr8', hex(16)),
  money: {
    declared: among('money'),
    value: integer(-(2n ** 63n), 2n ** 63n - 1n).map((cents) => `(${cents}::numeric / 100)::numeric(19,2)::money`),
  },
  macaddr: plain('macaddr', hex(12)),
  inet: plain('inet', network),
  bpchar: sized('char', 9, literal(text)),
  varchar: sized('varchar', 9, literal(text)),
  date: { declared: among('date'), value: dated('date', 2_145_031_948n) },
  time: sized('time', 6, literal(clock)),
  timestamp: sized('timestamp', 6, moment),
  timestamptz: sized(
    'timestamptz',
    6,
    moment.map((drawn) => (drawn.includes('inf') ? drawn.replace('timestamp', 'timestamptz') : `(${drawn} AT TIME ZONE 'UTC')`)),
  ),
  interval: plain(
    'interval',
    fc.oneof(
      joined(
        range(-2_000_000_000, 2_000_000_000),
        among(' mons '),
        range(-2_147_483_648, 2_147_483_647),
        among(' days '),
        range(-2_000_000_000, 2_000_000_000),
        among('.'),
        digits(1, 6),
        among(' secs'),
      ),
      joined(range(-14, 14), among(' mons '), range(-2, 2), among(' days '), range(-2, 2), among(' sec')),
    ),
  ),
  timetz: plain('timetz', joined(clock, zone)),
  bit: sized(
    'bit',
    20,
    bits(20).map((drawn) => `B'${drawn}'`),
  ),
  varbit: sized(
    'varbit',
    20,
    bits(40).map((drawn) => `B'${drawn}'`),
  ),
  numeric: { declared: fc.oneof(among('numeric'), numerics), value: literal(number), fitting: numberOf },
  refcursor: plain('refcursor', text),
  regprocedure: reg('regprocedure'),
  regoper: ambiguousReg('regoper'),
  regoperator: reg('regoperator'),
  regclass: reg('regclass'),
  regtype: reg('regtype'),
  uuid: plain('uuid', hex(32)),
  txid_snapshot: plain('txid_snapshot', snapshot),
  pg_lsn: plain('pg_lsn', joined(hex(1, 8), among('/'), hex(1, 8))),
  tsvector: plain('tsvector', tsvector),
  tsquery: plain('tsquery', fc.oneof({ weight: 1, arbitrary: among('') }, { weight: 9, arbitrary: tsquery })),
  regconfig: reg('regconfig'),
  regdictionary: reg('regdictionary'),
  jsonb: plain('jsonb', jsonText(true)),
  jsonpath: plain(
    'jsonpath',
    joined(among('', 'strict '), among('$."'), word, among('"', ' ü"'), among('', '[*] ? (@ > 1)', '[1 to last].size()')),
  ),
  regnamespace: reg('regnamespace'),
  regrole: reg('regrole'),
  regcollation: reg('regcollation'),
  pg_snapshot: plain('pg_snapshot', snapshot),
  xid8: plain('xid8', integer(0n, 2n ** 64n - 1n)),
}

const hstoreText = text.map((drawn) => `"${drawn.replace(/["\\]/g, '\\$&')}"`)
const dense = (element: fc.Arbitrary<number>) => fc.array(element, { minLength: 1, maxLength: 5 }).map((all) => `[${all.join(',')}]`)
const label = fc.array(word, { minLength: 1, maxLength: 3 }).map((all) => all.join('.'))

/** Each type of an extension whose form is known. */
export const drawnExtensionTypes: Readonly<Record<string, DrawnType>> = {
  'citext.citext': plain('citext', text),
  'hstore.hstore': plain(
    'hstore',
    fc.array(joined(hstoreText, among('=>'), fc.oneof(hstoreText, among('NULL'))), { maxLength: 4 }).map((all) => all.join(', ')),
  ),
  'ltree.ltree': plain('ltree', label),
  'ltree.lquery': plain('lquery', joined(label, among('', '.*', '.*{1,2}', '|b', '@', '.!c'))),
  'ltree.ltxtquery': plain('ltxtquery', joined(word, among(' & ', ' | ', ' & !'), word, among('', '*', '@'))),
  'vector.vector': plain('vector', dense(fc.float({ noNaN: true, noDefaultInfinity: true }))),
  'vector.halfvec': plain('halfvec', dense(fc.integer({ min: -1000, max: 1000 }))),
  'vector.sparsevec': plain('sparsevec', among('{}/5', '{1:1.5,3:-2}/5', '{5:0.1}/5')),
  'postgis.geometry': plain(
    'geometry',
    joined(among('', 'SRID=4326;'), among('POINT('), range(-90, 90), among(' '), range(-90, 90), among(')')),
  ),
  'postgis.geography': plain('geography', joined(among('POINT('), range(-90, 90), among(' '), range(-90, 90), among(')'))),
}
