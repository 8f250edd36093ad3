import type { Dice } from '../oracle/dice.ts'

export type Kind =
  | 'boolean'
  | 'int'
  | 'long'
  | 'float'
  | 'double'
  | 'decimal'
  | 'string'
  | 'binary'
  | 'uuid'
  | 'date'
  | 'time'
  | 'timestamp'
  | 'timestamptz'

/**
 * A column whose files have bounds, or a part of a struct, which has them in Parquet alone. Values are texts: numbers in digits, bytes in hexadecimal, days and microseconds
 * since 1970, microseconds since midnight.
 */
export interface BoundedColumn {
  readonly name: string
  /** The column that it is a part of; absent where it is one itself. */
  readonly of?: string
  /** Of Postgres. */
  readonly type: string
  readonly kind: Kind
  readonly value: (dice: Dice) => string
}

const DAY_US = 86_400_000_000n
const FIRST_DAY = -2_440_588n
const LAST_DAY = 2_145_042_541n
/** The last that 64 bits of microseconds hold beside infinity. */
const LAST_US = 2n ** 63n - 2n
const FIRST_US = FIRST_DAY * DAY_US
const HOUR_US = 3_600_000_000n

/** One of the edges, or near one, or anything between the first and the last. */
function wholeNumber(first: bigint, last: bigint, edges: readonly bigint[] = [0n]) {
  const all = [first, last, ...edges]
  return (dice: Dice) => {
    const drawn = dice.chance(0.6) ? dice.pick(all) + BigInt(dice.between(-2, 2)) : first + (dice.bits(80) % (last - first + 1n))
    return String(drawn < first ? first : drawn > last ? last : drawn)
  }
}

const FLOATS = ['NaN', '-Infinity', 'Infinity', '-0', '0', '1.5', '-1.5', '0.1', '1e10']
const oneOf = (edges: readonly string[], other: (dice: Dice) => string) => (dice: Dice) =>
  dice.chance(0.7) ? dice.pick(edges) : other(dice)
const float = oneOf([...FLOATS, '3.4028234663852886e+38', '1.401298464324817e-45', '-1.401298464324817e-45'], (dice) =>
  String(Math.fround((dice.next() - 2 ** 31) / 2 ** dice.below(40))),
)
const double = oneOf([...FLOATS, '1.7976931348623157e+308', '5e-324', '-5e-324'], (dice) =>
  String((dice.next() - 2 ** 31) / 2 ** dice.below(40)),
)

function decimal(precision: number, scale: number) {
  const last = 10n ** BigInt(precision) - 1n
  const unscaled = wholeNumber(
    -last,
    last,
    [0n, 127n, 128n, -128n, -129n, 2n ** 31n, 2n ** 63n].filter((edge) => edge <= last),
  )
  return (dice: Dice) => pointed(unscaled(dice), scale)
}

/** `-123`, 2 → `-1.23` */
export function pointed(unscaled: string, scale: number): string {
  const digits = unscaled.replace('-', '').padStart(scale + 1, '0')
  return `${unscaled.startsWith('-') ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}

/** Where code points, UTF-16 and UTF-8 are ordered differently, and where bounds are cut off. */
const BEGINNINGS = [
  '',
  'a',
  'B',
  'é',
  'ab',
  'a'.repeat(15),
  'a'.repeat(16),
  '\u0001',
  '\u007f',
  '\u0080',
  '\ud7ff',
  '\ue000',
  '\uffff',
  '\u{10000}',
  '😀',
]
const LONG = ['\u{10ffff}', '\ud7ff', '\uffff', '\ue000', '\u{1f600}', 'z']
const ENDINGS = ['', '', 'x', ' ', '\u{10ffff}', '\u0001', 'y'.repeat(100)]

function text(dice: Dice): string {
  const beginning = dice.chance(0.7) ? dice.pick(BEGINNINGS) : dice.pick(LONG).repeat(dice.between(14, 18))
  return beginning + dice.pick(ENDINGS) + (dice.chance(0.2) ? dice.hex(3) : '')
}

function bytes(dice: Dice): string {
  if (dice.chance(0.2)) return dice.hex(2 * dice.below(40))
  const beginning = dice.pick([
    '',
    '00',
    '7f',
    '80',
    'ff',
    'fe',
    'ff'.repeat(dice.between(14, 18)),
    '00'.repeat(dice.between(14, 18)),
    `01${'ff'.repeat(dice.between(14, 17))}`,
  ])
  return beginning + dice.pick(['', '00', 'ff', 'ab'.repeat(100)])
}

function uuid(dice: Dice): string {
  const hex =
    dice.pick(['00', '7f', '80', 'ff', dice.hex(2)]) +
    dice.pick(['0'.repeat(30), 'f'.repeat(30), `${'0'.repeat(14)}8${'0'.repeat(15)}`, dice.hex(30)])
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** Each kind, and decimals of each size that Parquet stores differently. */
export const boundedColumns: readonly BoundedColumn[] = [
  { name: 'b', type: 'boolean', kind: 'boolean', value: (dice) => String(dice.chance(0.5)) },
  { name: 'i', type: 'int4', kind: 'int', value: wholeNumber(-(2n ** 31n), 2n ** 31n - 1n) },
  { name: 'l', type: 'int8', kind: 'long', value: wholeNumber(-(2n ** 63n), 2n ** 63n - 1n, [0n, 2n ** 31n, 2n ** 32n, -(2n ** 31n)]) },
  { name: 'f', type: 'float4', kind: 'float', value: float },
  { name: 'd', type: 'float8', kind: 'double', value: double },
  { name: 'n9', type: 'numeric(9,2)', kind: 'decimal', value: decimal(9, 2) },
  { name: 'n18', type: 'numeric(18,4)', kind: 'decimal', value: decimal(18, 4) },
  { name: 'n38', type: 'numeric(38,10)', kind: 'decimal', value: decimal(38, 10) },
  { name: 't', type: 'text', kind: 'string', value: text },
  { name: 'v', type: 'bytea', kind: 'binary', value: bytes },
  { name: 'u', type: 'uuid', kind: 'uuid', value: uuid },
  { name: 'day', type: 'date', kind: 'date', value: wholeNumber(FIRST_DAY, LAST_DAY, [0n, 19_000n]) },
  {
    name: 'ts',
    type: 'timestamp',
    kind: 'timestamp',
    value: wholeNumber(FIRST_US, LAST_US, [0n, 1_700_000_000_000_000n, 253_402_300_800_000_000n]),
  },
  { name: 'tz', type: 'timestamptz', kind: 'timestamptz', value: wholeNumber(FIRST_US, LAST_US, [0n, 1_700_000_000_000_000n]) },
  { name: 'o', type: 'oid', kind: 'long', value: wholeNumber(0n, 2n ** 32n - 1n, [2n ** 31n]) },
]

/** Spark can't load a table that has one. */
export const timeColumn: BoundedColumn = {
  name: 'clock',
  type: 'time',
  kind: 'time',
  value: wholeNumber(0n, 24n * HOUR_US - 1n, [HOUR_US, 12n * HOUR_US]),
}

/** Of one struct, whose parts have no names in common with other columns: a reader could take one for the other. */
const PART_KINDS = ['i', 'f', 'n38', 't', 'u', 'ts']
export const structParts: readonly BoundedColumn[] = boundedColumns
  .filter(({ name }) => PART_KINDS.includes(name))
  .map((column) => ({ ...column, name: `part_${column.name}`, of: 'place' }))

/** A value of the column that is close to this one, such as its bounds in a file may be. */
export function near({ kind, value }: BoundedColumn, of: string, dice: Dice): string {
  const points = Array.from(of)
  switch (kind) {
    case 'int':
    case 'long':
      return String(BigInt.asIntN(kind === 'int' ? 32 : 64, BigInt(of) + BigInt(dice.between(-1, 1))))
    case 'string': {
      const cut = points.slice(0, dice.pick([1, 15, 16, 17]))
      const last = cut.pop()
      if (last === undefined || dice.chance(0.4)) return points.slice(0, 16).join('')
      const next = last.codePointAt(0)! + 1
      return [...cut, next > 0x10ffff ? last : String.fromCodePoint(next === 0xd800 ? 0xe000 : next)].join('')
    }
    case 'binary':
      return of.slice(0, 2 * dice.pick([1, 15, 16, 17]))
    default:
      return value(dice)
  }
}
