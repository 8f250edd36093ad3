import { Dice } from './dice.ts'
import { arrayText, boolText, float4Text, float8Text, moneyText, recordText, type ArrayElements } from './pg-text.ts'

/** A column type of the source: how it is declared, what values it takes, and how Postgres prints what the mirror shows. */
export interface OracleType {
  /** As in a column's declaration. */
  readonly sql: string
  /** A value as Postgres reads it; at most a few dozen bytes where `small`. */
  readonly value: (dice: Dice, small: boolean) => string
  /** Whether it can be part of a key. */
  readonly isKeyable: boolean
  /** Postgres' own text for a cell of a query's result, which is never null here. */
  readonly text: (cell: unknown) => string
  /** SQL of what the mirror shows of a value that `sql` stands for: null where it does not fit. The value itself where absent. */
  readonly shown?: (sql: string) => string
  /** Whether its values are variants, or have some within: of such a table DuckDB alone is asked for what is at rest, since PyIceberg loads none (docs/TYPES.md). */
  readonly variant?: 'itself' | 'within'
  /** The type of the same value that the reference reader of Postgres takes, where it does not take this one. */
  readonly reference?: string
}

/** Whether a database has the type only once somebody made it. */
export const isOwnType = ({ sql }: OracleType) => /^(oracle_|hstore|citext|ltree)/.test(sql)

const MOODS = ['sad', 'ok', 'happy', 'very "happy"', '']

/** Statements that a database needs before tables of these types. */
export const typeDefinitions: readonly string[] = [
  'CREATE EXTENSION hstore',
  'CREATE EXTENSION citext',
  'CREATE EXTENSION ltree',
  `CREATE TYPE oracle_mood AS ENUM (${MOODS.map((mood) => `'${mood}'`).join(', ')})`,
  'CREATE DOMAIN oracle_price AS numeric(12, 3)',
  'CREATE DOMAIN oracle_date AS date',
  'CREATE DOMAIN oracle_moment AS timestamptz',
  'CREATE DOMAIN oracle_rate AS numeric(7, 3)',
  'CREATE TYPE oracle_range AS RANGE (subtype = text, collation = "C")',
  'CREATE TYPE oracle_place AS (street text, zip numeric(10, 2), tags int4[], since date)',
  'CREATE TYPE oracle_pair AS (x int4, y text)',
  'CREATE DOMAIN oracle_doc AS jsonb',
  'CREATE DOMAIN oracle_loose_doc AS jsonb',
  'CREATE DOMAIN oracle_written AS json',
  'CREATE TYPE oracle_held AS (n int4, doc oracle_doc, docs oracle_doc[])',
]

/** `source.types` of the mirror: values that do not fit are kept as text, or become null; JSON becomes variants where a type says so. */
export const typeRules = {
  'public.oracle_date': 'string',
  'public.oracle_moment': { onUnfit: 'null' },
  'public.oracle_rate': { onUnfit: 'null' },
  'public.oracle_doc': 'variant',
  'public.oracle_loose_doc': { as: 'variant', onUnfit: 'null' },
  'public.oracle_written': { as: 'variant', onUnfit: 'null' },
} as const

const integer = (sql: string, bits: number): OracleType => ({
  sql,
  isKeyable: true,
  text: String,
  value: (dice) => {
    const limit = 1n << BigInt(bits - 1)
    if (dice.chance(0.2)) return String(dice.pick([-limit, limit - 1n, 0n, -1n, 1n]))
    return dice.chance(0.5) ? String(dice.between(-50, 50)) : String(dice.bits(bits) - limit)
  },
})

const float = (sql: string, edges: readonly string[], text: (cell: unknown) => string): OracleType => ({
  sql,
  isKeyable: true,
  // A whole number past 2^53 comes as a bigint.
  text: (cell) => text(typeof cell === 'bigint' ? Number(cell) : cell),
  value: (dice) => {
    if (dice.chance(0.25)) return dice.pick(['0', '-0', 'NaN', 'Infinity', '-Infinity', '0.1', '100000', '1000000', '1e15', ...edges])
    return String((dice.next() - 2 ** 31) * 10 ** dice.between(-12, 9))
  },
})

const numeric = (precision: number, scale: number): OracleType => ({
  sql: `numeric(${precision},${scale})`,
  isKeyable: true,
  text: String,
  value: (dice) => {
    const length = dice.chance(0.2) ? precision : dice.between(1, precision)
    const digits = dice.chance(0.1) ? '9'.repeat(length) : Array.from({ length }, () => dice.below(10)).join('')
    return `${dice.chance(0.5) ? '-' : ''}${digits}e${-scale}`
  },
})

const PIECES = [
  'a',
  'b',
  'Z',
  '0',
  ' ',
  "'",
  '"',
  '\\',
  '\n',
  '\t',
  ',',
  '{',
  '}',
  '%',
  'ü',
  'ß',
  'é',
  '漢',
  '😀',
  '\u202e',
  '\u00a0',
  'NULL',
]

function string(dice: Dice, maxLength: number): string {
  let text = ''
  for (let left = dice.below(maxLength + 1); left > 0; left--) {
    const piece = dice.pick(PIECES)
    if (Array.from(text + piece).length > maxLength) break
    text += piece
  }
  return text
}

/** Long and random, so that it stays out of line where Postgres compresses: an update elsewhere leaves it as unchanged TOAST. */
const large = (dice: Dice) => dice.hex(dice.between(2_100, 16_000))

const text = (sql: string, maxLength: number): OracleType => ({
  sql,
  isKeyable: true,
  text: String,
  value: (dice, small) => {
    if (!small && maxLength > 10_000 && dice.chance(0.15)) return large(dice)
    return string(dice, Math.min(maxLength, small ? 12 : 40))
  },
})

const pad = (value: number, width: number) => String(value).padStart(width, '0')

function day(dice: Dice, edges: readonly string[]): string {
  if (dice.chance(0.2)) return dice.pick(edges)
  return `${pad(dice.chance(0.9) ? dice.between(1900, 2100) : dice.between(1, 9999), 4)}-${pad(dice.between(1, 12), 2)}-${pad(dice.between(1, 28), 2)}`
}

function clock(dice: Dice): string {
  const whole = `${pad(dice.below(24), 2)}:${pad(dice.below(60), 2)}:${pad(dice.below(60), 2)}`
  return dice.chance(0.4) ? whole : `${whole}.${pad(dice.below(1_000_000), 6)}`
}

const TIMESTAMP_EDGES = ['4713-01-01 00:00:00 BC', '0001-12-31 23:59:59.999999 BC', '0001-01-01 00:00:00', '1969-12-31 23:59:59.999999', '1970-01-01 00:00:00', '9999-12-31 23:59:59.999999', '10000-01-01 00:00:00.000001', '290000-06-30 12:00:00'] // prettier-ignore

function timestamp(dice: Dice): string {
  return dice.chance(0.15) ? dice.pick(TIMESTAMP_EDGES) : `${day(dice, ['2000-02-29', '1582-10-15'])} ${clock(dice)}`
}

const JSON_KEYS = ['a', 'b', 'key c', '', 'ü', 'a longer key, which comes after shorter ones', '\\u0041', '\\"']

/** `isDistinct`: no object has a key twice. */
function json(dice: Dice, depth: number, { isDistinct = false } = {}): string {
  const scalars = [
    'null',
    'true',
    'false',
    String(dice.between(-1000, 1000)),
    '1.50',
    '1e3',
    '12345678901234567890',
    '"\\u00fc"',
    JSON.stringify(string(dice, 8)),
  ]
  if (depth === 0 || dice.chance(0.4)) return dice.pick(scalars)
  const items = Array.from({ length: dice.below(4) }, () => json(dice, depth - 1, { isDistinct }))
  if (dice.chance(0.5)) return `[${items.join(', ')}]`
  const names = isDistinct ? dice.some(JSON_KEYS, items.length) : items.map(() => dice.pick(JSON_KEYS.slice(0, 3)))
  return `{${items.map((item, index) => `"${names[index]}" :${item}`).join(',')}}`
}

/** No variant holds them: too many digits, and of json also what jsonb would lose or refuse. */
const UNFIT_JSONB = ['1e38', '[{"deep": -1e-39}]', '{"a": 1234567890123456789012345678901234567890.5}']
const UNFIT_JSON = [...UNFIT_JSONB, '{"a": 1, "b": 2, "a": 3}', '[{"a": {"x": 1, "x": 1}}]', '"\\u0000"', '{"half": "\\ud800"}']

/** A value that a variant holds. */
function document(dice: Dice, small: boolean): string {
  return !small && dice.chance(0.1) ? `{"large": "${large(dice)}"}` : json(dice, small ? 0 : 3, { isDistinct: true })
}

const jsonType = (sql: string, isKeyable: boolean): OracleType => ({
  sql,
  isKeyable,
  text: String,
  value: (dice, small) => (!small && dice.chance(0.1) ? `{"large": "${large(dice)}"}` : json(dice, small ? 0 : 2)),
})

const plain = (sql: string, value: OracleType['value']): OracleType => ({ sql, isKeyable: true, text: String, value })
const notForKeys = (sql: string, value: OracleType['value']): OracleType => ({ ...plain(sql, value), isKeyable: false })

function decimal(dice: Dice, digits: number, scale: number): string {
  return `${dice.chance(0.5) ? '-' : ''}${Array.from({ length: digits }, () => dice.below(10)).join('')}e${-scale}`
}

function interval(dice: Dice): string {
  if (dice.chance(0.2)) return dice.pick(['0', '178000000 years', '-178000000 years', '1 year -1 day', '-1 us'])
  const signed = (limit: number) => dice.between(-limit, limit)
  return `${signed(5)} years ${signed(13)} mons ${signed(40)} days ${signed(30)} hours ${signed(99)}.${pad(dice.below(1_000_000), 6)} secs`
}

const bits = (dice: Dice, length: number) => Array.from({ length }, () => dice.below(2)).join('')

function address(dice: Dice): string {
  return dice.chance(0.3) ? dice.pick(['fe80::1', '::ffff:1.2.3.4', '::']) : Array.from({ length: 4 }, () => dice.below(256)).join('.')
}

const compareNumbers = (a: string, b: string) => Number(a) - Number(b)
const compareTexts = (a: string, b: string) => (a < b ? -1 : 1)
const compareBytes = (a: string, b: string) => Buffer.compare(Buffer.from(unquoted(a)), Buffer.from(unquoted(b)))

function range(dice: Dice, bound: () => string, compare: (a: string, b: string) => number): string {
  if (dice.chance(0.15)) return dice.pick(['empty', '(,)'])
  const [low, high] = [bound(), bound()].sort(compare)
  return `${dice.pick(['[', '('])}${dice.chance(0.15) ? '' : low},${dice.chance(0.15) ? '' : high}${dice.pick([']', ')'])}`
}

const scalars: readonly OracleType[] = [
  { sql: 'boolean', isKeyable: true, text: boolText, value: (dice) => dice.pick(['t', 'f']) },
  integer('int2', 16),
  integer('int4', 32),
  integer('int8', 64),
  float('float4', ['1e-45', '3.4028235e38', '16777216', '1e-5'], float4Text),
  float('float8', ['5e-324', '1.7976931348623157e308', '9007199254740993', '1e14', '0.30000000000000004', '-1e-5'], float8Text),
  numeric(9, 2),
  numeric(18, 6),
  numeric(38, 0),
  numeric(38, 10),
  numeric(38, 38),
  text('text', Infinity),
  text('varchar', Infinity),
  text('varchar(20)', 20),
  text('char(6)', 6),
  plain('"char"', (dice) => dice.pick(['', 'a', 'Z', '0', ' ', '"', ','])),
  plain('name', (dice) => string(dice, 12)),
  plain('bytea', (dice, small) => `\\x${!small && dice.chance(0.15) ? large(dice).slice(0, 4_400) : dice.hex(2 * dice.below(12))}`),
  plain('date', (dice) =>
    day(dice, ['4713-02-01 BC', '0001-12-31 BC', '0001-01-01', '1969-12-31', '2000-02-29', '9999-12-31', '10000-01-01', '5874897-12-31']),
  ),
  plain('time', clock),
  plain('timestamp', timestamp),
  plain('timestamptz', (dice) => timestamp(dice).replace(/( BC)?$/, '+00$1')),
  plain('uuid', (dice) => dice.hex(32)),
  jsonType('json', false),
  jsonType('jsonb', true),
  plain('oid', (dice) => String(dice.chance(0.2) ? dice.pick([0, 4_294_967_295]) : dice.next())),
  plain('oracle_mood', (dice) => dice.pick(MOODS)),
  plain('numeric', (dice) => {
    if (dice.chance(0.25)) return dice.pick(['NaN', 'Infinity', '-Infinity', '0', '0.00', '1e100', '-1e-60', '1.10', '1.1'])
    return decimal(dice, dice.between(1, 60), dice.between(0, 30))
  }),
  plain('oracle_price', (dice) => decimal(dice, dice.between(1, 12), 3)),
  plain('numeric(50,3)', (dice) => decimal(dice, dice.between(1, 50), 3)),
  plain('xid8', (dice) => String(dice.chance(0.2) ? (1n << 64n) - 1n : dice.bits(64))),
  plain('pg_lsn', (dice) => `${dice.hex(dice.between(1, 8))}/${dice.hex(dice.between(1, 8))}`),
  plain('interval', interval),
  plain(
    'timetz',
    (dice) => `${dice.chance(0.1) ? '24:00:00' : clock(dice)}${dice.pick(['+', '-'])}${pad(dice.below(16), 2)}:${pad(dice.below(60), 2)}`,
  ),
  plain('bit(11)', (dice) => bits(dice, 11)),
  plain('varbit', (dice) => bits(dice, dice.below(20))),
  plain('inet', (dice) => `${address(dice)}${dice.chance(0.5) ? '' : `/${dice.below(33)}`}`),
  plain('cidr', (dice) => dice.pick([`${dice.below(256)}.${dice.below(256)}.0.0/16`, '10.1.2.3/32', '2001:db8::/32', '::/0'])),
  plain('macaddr', (dice) => dice.hex(12)),
  plain('macaddr8', (dice) => dice.hex(16)),
  plain('int4range', (dice) => range(dice, () => String(dice.between(-20, 20)), compareNumbers)),
  plain('numrange', (dice) => range(dice, () => `${dice.between(-20, 20)}.${dice.pick(['5', '50', '00'])}`, compareNumbers)),
  plain('daterange', (dice) => range(dice, () => `20${pad(dice.below(100), 2)}-02-03`, compareTexts)),
  plain('tstzrange', (dice) => range(dice, () => `"20${pad(dice.below(100), 2)}-02-03 ${clock(dice)}+00"`, compareTexts)),
  plain('oracle_range', (dice) => range(dice, () => quoted(string(dice, 6).replaceAll('\n', '')), compareBytes)),
  plain('int4multirange', (dice) => {
    const from = dice.between(-50, 50)
    return dice.pick(['{}', `{[${from},${from + 3})}`, `{[${from},${from + 3}),(${from + 5},${from + 9}],[${from + 20},)}`])
  }),
  plain('nummultirange', (dice) => `{[1.5,2.50),(${dice.between(3, 9)}.0,]}`),
  plain('tsvector', (dice) => dice.pick(['', 'a:1A fat:2B,4C cat:5D', "'two words':3 b", `w${dice.below(50)}:${dice.between(1, 9)}`])),
  plain('tsquery', (dice) => dice.pick(['fat:*A & !(cat | rat) <-> dog', `w${dice.below(50)} <3> b`, "'two words'"])),
  plain('citext', (dice) => string(dice, 12)),
  plain('ltree', (dice) => dice.pick(['', 'a.b.c', `top.x${dice.below(50)}`])),
  notForKeys('hstore', (dice, small) => {
    const pairs = Array.from(
      { length: dice.below(4) },
      () => `${quoted(string(dice, 6))}=>${dice.chance(0.2) ? 'NULL' : quoted(string(dice, 12))}`,
    )
    return !small && dice.chance(0.1) ? `large=>${large(dice)}` : pairs.join(', ')
  }),
  notForKeys(
    'xml',
    (dice, small) => `<a b="${dice.below(9)}">${!small && dice.chance(0.1) ? large(dice) : dice.pick(['ü', '<c/>', '&lt;', ' '])}</a>`,
  ),
  notForKeys('jsonpath', (dice) => dice.pick(['$.a[*] ? (@ > 1)', `strict $[${dice.below(9)}]."b c"`])),
  notForKeys('point', (dice) => `(${dice.between(-9, 9)}.5,${dice.next()}e-7)`),
  notForKeys('polygon', (dice) => `((0,0),(${dice.between(1, 9)},2.25),(3,1e20))`),
  plain('oracle_date', (dice) => dice.pick(['infinity', '-infinity', '0044-03-15 BC', day(dice, ['5874897-12-31'])])),
  {
    sql: 'oracle_place',
    isKeyable: false,
    text: (cell) => {
      const { street, zip, tags, since } = cell as {
        street: string | null
        zip: string | null
        tags: ArrayElements | null
        since: string | null
      }
      return recordText([street, zip, tags === null ? null : arrayText(textsOf(tags)), since])
    },
    value: (dice, small) =>
      recordText(
        [
          !small && dice.chance(0.1) ? large(dice) : string(dice, 12),
          decimal(dice, 10, 2),
          dice.pick(['{}', '{1,NULL,-3}', '{7}']),
          day(dice, ['0001-12-31 BC', '5874897-12-31']),
        ].map((part) => (dice.chance(0.2) ? null : part)),
      ),
  },
  {
    // Whatever attributes it has by now.
    sql: 'oracle_pair',
    isKeyable: false,
    text: (cell) =>
      recordText(Object.values(cell as Record<string, unknown>).map((part) => (part === null ? null : String(part as number)))),
    value: (dice) => {
      const rest = Array.from({ length: dice.chance(0.6) ? 0 : dice.between(1, 2) }, () =>
        dice.chance(0.5) ? null : String(dice.below(9)),
      )
      return recordText([dice.chance(0.2) ? null : String(dice.between(-9, 9)), dice.chance(0.2) ? null : string(dice, 8), ...rest])
    },
  },
]

const listed = (texts: readonly string[]) => texts.map((text) => `'${text}'`).join(', ')

/** JSON that is a variant in Iceberg. */
const variants: readonly OracleType[] = [
  { ...jsonType('oracle_doc', true), variant: 'itself', value: document },
  {
    ...jsonType('oracle_loose_doc', false),
    variant: 'itself',
    value: (dice, small) => (dice.chance(0.1) ? dice.pick(UNFIT_JSONB) : document(dice, small)),
    shown: (sql) => `CASE WHEN ${sql} NOT IN (${listed(UNFIT_JSONB)}) THEN ${sql} END`,
  },
  {
    ...jsonType('oracle_written', false),
    variant: 'itself',
    value: (dice, small) => (dice.chance(0.1) ? dice.pick(UNFIT_JSON) : document(dice, small)),
    // Where it fits, what is kept is what jsonb keeps.
    shown: (sql) => `CASE WHEN ${sql}::text NOT IN (${listed(UNFIT_JSON)}) THEN ${sql}::text::jsonb::text END`,
  },
]

/** `money` takes no exponent. */
function amount(dice: Dice): string {
  return `${dice.chance(0.5) ? '-' : ''}${dice.below(10 ** dice.between(1, 9))}.${pad(dice.below(100), 2)}`
}

/** What has no arrays here. */
const alone: readonly OracleType[] = [
  {
    sql: 'money',
    isKeyable: true,
    reference: 'numeric(19,2)',
    text: (cell) => moneyText(cell as string),
    value: (dice) => (dice.chance(0.1) ? '-92233720368547758.08' : amount(dice)),
  },
  {
    ...notForKeys('oracle_moment', (dice) =>
      dice.chance(0.4) ? dice.pick(['infinity', '-infinity', '294276-12-31 00:00:00+00']) : timestamp(dice),
    ),
    shown: (sql) => `CASE WHEN isfinite(${sql}) AND ${sql} < '294276-01-01' THEN ${sql} END`,
  },
  {
    ...notForKeys('oracle_rate', (dice) => (dice.chance(0.4) ? 'NaN' : decimal(dice, 7, 3))),
    shown: (sql) => `NULLIF(${sql}, 'NaN')`,
  },
  {
    // In the order of its attributes; of each, values that fit.
    sql: 'oracle_held',
    isKeyable: false,
    variant: 'within',
    text: (cell) => {
      const { n, doc, docs } = cell as { n: number | null; doc: string | null; docs: ArrayElements | null }
      return recordText([n === null ? null : String(n), doc, docs === null ? null : arrayText(docs)])
    },
    value: (dice, small) =>
      recordText([
        dice.chance(0.2) ? null : String(dice.between(-9, 9)),
        dice.chance(0.2) ? null : json(dice, small ? 0 : 2, { isDistinct: true }),
        dice.pick([null, '{}', '{NULL,"null","[1.50, {\\"a\\": null}]"}', '{"\\"x\\""}']),
      ]),
  },
  grid('int4', 2, (dice) => String(dice.between(-9, 9))),
  grid('text', 2, (dice) => quoted(string(dice, 6))),
  grid('int8', 3, (dice) => String(dice.bits(60))),
]

/** Arrays of as many dimensions as they were declared with. */
function grid(element: string, dimensions: number, value: (dice: Dice) => string): OracleType {
  const level = (dice: Dice, sizes: readonly number[]): string => {
    if (sizes.length === 0) return dice.chance(0.2) ? 'NULL' : value(dice)
    return `{${Array.from({ length: sizes[0] }, () => level(dice, sizes.slice(1))).join(',')}}`
  }
  return {
    sql: `${element}${'[]'.repeat(dimensions)}`,
    isKeyable: false,
    text: (cell) => arrayText(textsOf(cell as ArrayElements)),
    value: (dice) => {
      const sizes = Array.from({ length: dimensions }, () => dice.between(1, 3))
      return dice.chance(0.2) ? '{}' : level(dice, sizes)
    },
  }
}

function textsOf(cells: readonly unknown[]): ArrayElements {
  return cells.map((cell) => (cell === null ? null : Array.isArray(cell) ? textsOf(cell) : String(cell as string | number | bigint)))
}

const arrayOf = (element: OracleType): OracleType => ({
  ...element,
  sql: `${element.sql}[]`,
  isKeyable: element.isKeyable,
  text: (cell) => arrayText((cell as readonly unknown[]).map((item) => (item === null ? null : element.text(item)))),
  value: (dice, small) => {
    const items = Array.from({ length: dice.below(small ? 3 : 5) }, () => (dice.chance(0.2) ? 'NULL' : quoted(element.value(dice, small))))
    return `{${items.join(',')}}`
  },
  ...(element.variant && { variant: 'within' }),
  ...(element.shown && { shown: eachShown(element.shown) }),
})

/** What is shown of an array: of each element what is shown of it. */
function eachShown(shown: (sql: string) => string): (sql: string) => string {
  return (sql) =>
    `CASE WHEN ${sql} IS NOT NULL THEN ARRAY(SELECT ${shown('e')} FROM unnest(${sql}) WITH ORDINALITY u (e, n) ORDER BY n) END`
}

function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, '\\$&')}"`
}

function unquoted(value: string): string {
  return value.slice(1, -1).replace(/\\(.)/g, '$1')
}

/** Types that only changes of schema lead to. */
const altered: readonly OracleType[] = [numeric(11, 2), numeric(38, 2), text('varchar(40)', 40)]

/** Every type that a mirrored column may have. */
export const columnTypes: readonly OracleType[] = [...[...scalars, ...variants].flatMap((type) => [type, arrayOf(type)]), ...alone]
export const keyTypes: readonly OracleType[] = columnTypes.filter((type) => type.isKeyable)

/** The type that is declared so. */
export function typeNamed(sql: string): OracleType {
  return [...columnTypes, ...altered].find((type) => type.sql === sql)!
}

/** What follows changes of `oracle_mood`, `oracle_price` and `oracle_pair`. */
export const enumTypes = ['oracle_mood', 'oracle_mood[]']
export const domainTypes = ['oracle_price', 'oracle_price[]']
export const compositeTypes = ['oracle_pair', 'oracle_pair[]']
