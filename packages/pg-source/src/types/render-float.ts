import type { TextSink } from './text-sink.ts'
import { checkSize, int32At } from './wire.ts'

/**
 * float4 and float8 as Postgres prints them with `extra_float_digits` above 0: the fewest digits whose value lies strictly between
 * the midpoints to the neighbours, and of those the nearest; with an exponent below 1e-4 and from 1e15 (float4: 1e6) on.
 *
 * JavaScript's own digits agree, but that it also takes a midpoint itself where reading it back would round to the value. Only
 * integers above 2^53 have midpoints with few digits.
 */

const bits = new DataView(new ArrayBuffer(8))
const FLOAT8_FIXED_BELOW = 15
const FLOAT4_FIXED_BELOW = 6

export function renderFloat8(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 8, 'float8')
  bits.setInt32(0, int32At(source, start))
  bits.setInt32(4, int32At(source, start + 4))
  const value = bits.getFloat64(0)
  if (renderSpecial(value, sink)) return
  const digits = Math.abs(value) < 2 ** 53 ? value.toExponential() : shortestExact(value)
  renderDigits(digits, FLOAT8_FIXED_BELOW, sink)
}

export function renderFloat4(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 4, 'float4')
  bits.setInt32(0, int32At(source, start))
  const value = bits.getFloat32(0)
  if (!renderSpecial(value, sink)) renderDigits(shortestFloat4(value), FLOAT4_FIXED_BELOW, sink)
}

function renderSpecial(value: number, sink: TextSink): boolean {
  if (Number.isNaN(value)) sink.ascii('NaN')
  else if (value === Infinity) sink.ascii('Infinity')
  else if (value === -Infinity) sink.ascii('-Infinity')
  else if (value === 0) sink.ascii(Object.is(value, -0) ? '-0' : '0')
  else return false
  return true
}

/** `text` is `-d.ddde±x`. */
function renderDigits(text: string, fixedBelow: number, sink: TextSink): void {
  const split = text.indexOf('e')
  const exponent = Number(text.slice(split + 1))
  const negative = text.startsWith('-')
  const digits = text.slice(negative ? 1 : 0, split).replace('.', '')
  if (negative) sink.byte(0x2d)
  if (exponent < -4 || exponent >= fixedBelow) {
    sink.ascii(digits.length === 1 ? digits : `${digits[0]}.${digits.slice(1)}`)
    sink.ascii(exponent < 0 ? 'e-' : 'e+')
    sink.integer(Math.abs(exponent), 2)
  } else if (exponent < 0) sink.ascii(`0.${'0'.repeat(-exponent - 1)}${digits}`)
  else if (digits.length <= exponent + 1) sink.ascii(digits.padEnd(exponent + 1, '0'))
  else sink.ascii(`${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`)
}

/** An integer of 2^53 or more: exact arithmetic decides. */
function shortestExact(value: number): string {
  const magnitude = BigInt(Math.abs(value))
  bits.setFloat64(0, Math.abs(value))
  const pattern = bits.getBigUint64(0)
  bits.setBigUint64(0, pattern - 1n)
  // Twice the midpoints, so that they are integers. Above the greatest double its own step counts.
  const below = magnitude + BigInt(bits.getFloat64(0))
  const step = 1n << BigInt(Number(pattern >> 52n) - 1075)
  const above = 2n * magnitude + step
  const length = magnitude.toString().length
  for (let count = 1; count < length; count++) {
    const unit = 10n ** BigInt(length - count)
    const quotient = magnitude / unit
    const rest = magnitude - quotient * unit
    const isUp = 2n * rest > unit || (2n * rest === unit && quotient % 2n === 1n)
    for (const candidate of isUp ? [quotient + 1n, quotient] : [quotient, quotient + 1n]) {
      const twice = 2n * candidate * unit
      if (twice > below && twice < above) return exponential(value < 0, candidate.toString(), length - count)
    }
  }
  return exponential(value < 0, magnitude.toString(), 0)
}

/** Digits × 10^power as `toExponential` writes it, without zeros at the end. */
function exponential(negative: boolean, digits: string, power: number): string {
  const kept = digits.replace(/0+$/, '')
  const mantissa = kept.length === 1 ? kept : `${kept[0]}.${kept.slice(1)}`
  return `${negative ? '-' : ''}${mantissa}e+${digits.length - 1 + power}`
}

/** The midpoints of float4 values are doubles, so comparing as doubles decides, but where a decimal rounds to the midpoint itself. */
function shortestFloat4(value: number): string {
  bits.setFloat32(0, Math.abs(value))
  const pattern = bits.getUint32(0)
  const isPowerOfTwo = (pattern & 0x7f_ffff) === 0
  bits.setUint32(0, pattern - 1)
  const below = (Math.abs(value) + bits.getFloat32(0)) / 2
  const step = 2 ** (Math.max(pattern >>> 23, 1) - 150)
  const above = Math.abs(value) + step / 2
  // Up to six digits survive in a normal float4, so that fewer are found in six with zeros behind.
  for (let count = pattern < 0x80_0000 ? 1 : 6; count < 9; count++) {
    const nearest = roundHalfEven(value, count)
    if (isBetween(nearest, below, above)) return withoutZeros(nearest)
    if (!isPowerOfTwo) continue
    // The lower half of the gap is half as wide: the nearest may lie below it, and the next above within.
    const next = nextUp(nearest)
    if (isBetween(next, below, above)) return withoutZeros(next)
  }
  return withoutZeros(value.toExponential(8))
}

/** The nearest decimal of so many digits; of two that are equally near, the even one, where JavaScript takes the greater. */
function roundHalfEven(value: number, count: number): string {
  const rounded = value.toExponential(count - 1)
  const finer = value.toExponential(count)
  if (finer[finer.indexOf('e') - 1] !== '5' || compareExact(finer, Math.abs(value)) !== 0) return rounded
  const last = rounded.indexOf('e') - 1
  return Number(rounded[last]) % 2 === 0 ? rounded : rounded.slice(0, last) + String(Number(rounded[last]) - 1) + rounded.slice(last + 1)
}

function isBetween(text: string, below: number, above: number): boolean {
  const magnitude = Math.abs(Number(text))
  if (magnitude !== below && magnitude !== above) return magnitude > below && magnitude < above
  return compareExact(text, magnitude) === (magnitude === below ? 1 : -1)
}

/** Whether the decimal's magnitude is below (-1), equal to (0) or above (1) a double that it rounds to. */
function compareExact(text: string, double: number): number {
  const [mantissa, exponent] = text.replace(/^-/, '').split('e') as [string, string]
  const fraction = mantissa.includes('.') ? mantissa.length - 2 : 0
  const power = Number(exponent) - fraction
  // double = scaled × 2^-200: the smallest midpoint of float4 is 2^-150.
  const scaled = BigInt(double * 2 ** 200)
  const decimal = BigInt(mantissa.replace('.', ''))
  const left = power >= 0 ? decimal * 10n ** BigInt(power) * 2n ** 200n : decimal * 2n ** 200n
  const right = power >= 0 ? scaled : scaled * 10n ** BigInt(-power)
  return left < right ? -1 : left > right ? 1 : 0
}

function nextUp(text: string): string {
  const [mantissa, exponent] = text.replace(/^-/, '').split('e') as [string, string]
  const digits = (BigInt(mantissa.replace('.', '')) + 1n).toString()
  const count = mantissa.replace('.', '').length
  const shown = digits.slice(0, count)
  const power = Number(exponent) + (digits.length - count)
  return `${text.startsWith('-') ? '-' : ''}${shown[0]}${count > 1 ? `.${shown.slice(1)}` : ''}e${power < 0 ? '' : '+'}${power}`
}

function withoutZeros(text: string): string {
  return text.replace(/\.?0+e/, 'e')
}
