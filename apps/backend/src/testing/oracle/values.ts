import type { Dice } from './dice.ts'

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

export function string(dice: Dice, maxLength: number): string {
  let text = ''
  for (let left = dice.below(maxLength + 1); left > 0; left--) {
    const piece = dice.pick(PIECES)
    if (Array.from(text + piece).length > maxLength) break
    text += piece
  }
  return text
}

/** Long and random, so that it stays out of line where Postgres compresses: an update elsewhere leaves it as unchanged TOAST. */
export const large = (dice: Dice) => dice.hex(dice.between(2_100, 16_000))

export const pad = (value: number, width: number) => String(value).padStart(width, '0')

export function day(dice: Dice, edges: readonly string[]): string {
  if (dice.chance(0.2)) return dice.pick(edges)
  return `${pad(dice.chance(0.9) ? dice.between(1900, 2100) : dice.between(1, 9999), 4)}-${pad(dice.between(1, 12), 2)}-${pad(dice.between(1, 28), 2)}`
}

export function clock(dice: Dice): string {
  const whole = `${pad(dice.below(24), 2)}:${pad(dice.below(60), 2)}:${pad(dice.below(60), 2)}`
  return dice.chance(0.4) ? whole : `${whole}.${pad(dice.below(1_000_000), 6)}`
}

const TIMESTAMP_EDGES = ['4713-01-01 00:00:00 BC', '0001-12-31 23:59:59.999999 BC', '0001-01-01 00:00:00', '1969-12-31 23:59:59.999999', '1970-01-01 00:00:00', '9999-12-31 23:59:59.999999', '10000-01-01 00:00:00.000001', '290000-06-30 12:00:00'] // prettier-ignore

export function timestamp(dice: Dice): string {
  return dice.chance(0.15) ? dice.pick(TIMESTAMP_EDGES) : `${day(dice, ['2000-02-29', '1582-10-15'])} ${clock(dice)}`
}

const JSON_KEYS = ['a', 'b', 'key c', '', 'ü', 'a longer key, which comes after shorter ones', '\\u0041', '\\"']

/** `isDistinct`: no object has a key twice. */
export function json(dice: Dice, depth: number, { isDistinct = false } = {}): string {
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
export const UNFIT_JSONB = ['1e38', '[{"deep": -1e-39}]', '{"a": 1234567890123456789012345678901234567890.5}']
export const UNFIT_JSON = [...UNFIT_JSONB, '{"a": 1, "b": 2, "a": 3}', '[{"a": {"x": 1, "x": 1}}]', '"\\u0000"', '{"half": "\\ud800"}']

/** A value that a variant holds. */
export function document(dice: Dice, small: boolean): string {
  return !small && dice.chance(0.1) ? `{"large": "${large(dice)}"}` : json(dice, small ? 0 : 3, { isDistinct: true })
}

export function decimal(dice: Dice, digits: number, scale: number): string {
  return `${dice.chance(0.5) ? '-' : ''}${Array.from({ length: digits }, () => dice.below(10)).join('')}e${-scale}`
}

export function interval(dice: Dice): string {
  if (dice.chance(0.2)) return dice.pick(['0', '178000000 years', '-178000000 years', '1 year -1 day', '-1 us'])
  const signed = (limit: number) => dice.between(-limit, limit)
  return `${signed(5)} years ${signed(13)} mons ${signed(40)} days ${signed(30)} hours ${signed(99)}.${pad(dice.below(1_000_000), 6)} secs`
}

export const bits = (dice: Dice, length: number) => Array.from({ length }, () => dice.below(2)).join('')

export function address(dice: Dice): string {
  return dice.chance(0.3) ? dice.pick(['fe80::1', '::ffff:1.2.3.4', '::']) : Array.from({ length: 4 }, () => dice.below(256)).join('.')
}

export const compareNumbers = (a: string, b: string) => Number(a) - Number(b)
export const compareTexts = (a: string, b: string) => (a < b ? -1 : 1)
export const compareBytes = (a: string, b: string) => Buffer.compare(Buffer.from(unquoted(a)), Buffer.from(unquoted(b)))

export function range(dice: Dice, bound: () => string, compare: (a: string, b: string) => number): string {
  if (dice.chance(0.15)) return dice.pick(['empty', '(,)'])
  const [low, high] = [bound(), bound()].sort(compare)
  return `${dice.pick(['[', '('])}${dice.chance(0.15) ? '' : low},${dice.chance(0.15) ? '' : high}${dice.pick([']', ')'])}`
}

export function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, '\\$&')}"`
}

function unquoted(value: string): string {
  return value.slice(1, -1).replace(/\\(.)/g, '$1')
}
