import { Dice } from './dice.ts'
import { arrayText, boolText, float4Text, float8Text } from './pg-text.ts'

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
}

const MOODS = ['sad', 'ok', 'happy', 'very "happy"', '']

/** Statements that a database needs before tables of these types. */
export const typeDefinitions: readonly string[] = [`CREATE TYPE oracle_mood AS ENUM (${MOODS.map((mood) => `'${mood}'`).join(', ')})`]

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

function json(dice: Dice, depth: number): string {
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
  const items = Array.from({ length: dice.below(4) }, () => json(dice, depth - 1))
  return dice.chance(0.5) ? `[${items.join(', ')}]` : `{${items.map((item) => `"${dice.pick(['a', 'b', 'key c'])}" :${item}`).join(',')}}`
}

const jsonType = (sql: string, isKeyable: boolean): OracleType => ({
  sql,
  isKeyable,
  text: String,
  value: (dice, small) => (!small && dice.chance(0.1) ? `{"large": "${large(dice)}"}` : json(dice, small ? 0 : 2)),
})

const plain = (sql: string, value: OracleType['value']): OracleType => ({ sql, isKeyable: true, text: String, value })

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
]

const arrayOf = (element: OracleType): OracleType => ({
  sql: `${element.sql}[]`,
  isKeyable: element.isKeyable,
  text: (cell) => arrayText((cell as readonly unknown[]).map((item) => (item === null ? null : element.text(item)))),
  value: (dice, small) => {
    const items = Array.from({ length: dice.below(small ? 3 : 5) }, () => (dice.chance(0.2) ? 'NULL' : quoted(element.value(dice, small))))
    return `{${items.join(',')}}`
  },
})

function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, '\\$&')}"`
}

/** Every type that a mirrored column may have. */
export const columnTypes: readonly OracleType[] = [...scalars, ...scalars.map(arrayOf)]
export const keyTypes: readonly OracleType[] = columnTypes.filter((type) => type.isKeyable)
