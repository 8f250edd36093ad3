import type { ColumnBuilder } from '@moonlink/core'
import { BadValueError, shownText } from './bad-value.ts'
import type { DecodeRun, DecodeValue } from './decoder.ts'
import { registerRun } from './runs.ts'
import { checkSize, int16At, int32At, malformedValue, uint16At } from './wire.ts'

/**
 * numeric → decimal(precision, scale), a 128-bit unscaled integer.
 *
 * Up to 15 digits are gathered in a double, which holds them exactly; more in four 32-bit limbs, multiplied by at most 10^6 at a
 * time so that limb × factor + carry stays below 2^53.
 */

const EXACT_DIGITS = 15
const TWO_32 = 0x1_0000_0000
const POWERS = Array.from({ length: EXACT_DIGITS + 1 }, (_, exponent) => 10 ** exponent)
const POSITIVE = 0x0000
const NEGATIVE = 0x4000
const SPECIAL: ReadonlyMap<number, string> = new Map([
  [0xc000, 'NaN'],
  [0xd000, 'Infinity'],
  [0xf000, '-Infinity'],
])

const limbs = new Uint32Array(4)

/** Decodes base-10000 digits: value = Σ digit·10000^(weight−i). */
export function binaryNumeric(precision: number, scale: number): DecodeValue {
  const decode: DecodeValue = (source, start, end, builder) => {
    if (end - start < 8) malformedValue('numeric', 'too short')
    let count = uint16At(source, start)
    let weight = int16At(source, start + 2)
    const sign = uint16At(source, start + 4)
    if (end - start !== 8 + 2 * count) malformedValue('numeric', `${count} digit groups in ${end - start} bytes`)
    if (sign !== POSITIVE && sign !== NEGATIVE) refuseSign(sign, precision, scale)
    let at = start + 8
    while (count > 0 && uint16At(source, at) === 0) {
      at += 2
      count--
      weight--
    }
    // Groups that are all zero do not count, so the last one tells how fine the value is.
    while (count > 0 && uint16At(source, at + 2 * count - 2) === 0) count--
    if (count === 0) return builder.appendInt128(0, 0, 0, 0)
    const digits = 4 * weight + digitCount(uint16At(source, at)) + scale
    const exponent = 4 * (weight - count + 1) + scale
    if (digits > precision || exponent <= -4) refuseDigits(precision, scale)
    if (digits <= EXACT_DIGITS) appendSmall(smallFromGroups(source, at, count, exponent, precision, scale), sign === NEGATIVE, builder)
    else appendLarge(source, at, count, exponent, sign === NEGATIVE, precision, scale, builder)
  }
  registerRun(decode, numericRun(precision, scale))
  return decode
}

/** Values of at most three groups whose unscaled integer a double holds. */
function numericRun(precision: number, scale: number): DecodeRun {
  const limit = POWERS[Math.min(precision, EXACT_DIGITS)]
  return (source, cells, at, count, builder) => {
    const { row, words } = builder.openRun(count)
    let done = 0
    for (let cell = at, to = row * 4; done < count; done++, cell += 2, to += 4) {
      const start = cells[cell]
      const end = cells[cell + 1]
      const value = everydayValue(source, start, end, scale)
      if (value < 0 || value >= limit) break
      const sign = uint16At(source, start + 4) === NEGATIVE && value > 0 ? -1 : 0
      const low = value | 0
      const high = (value / TWO_32) | 0
      // Two's complement: every bit flipped, and one added.
      words[to] = sign === 0 ? low : -low
      words[to + 1] = sign === 0 ? high : ~high + (low === 0 ? 1 : 0)
      words[to + 2] = sign
      words[to + 3] = sign
    }
    builder.commitRun(done)
    return done
  }
}

/** The unscaled integer without its sign, exact where it is below 10^15; -1 where the value is not an everyday one. */
function everydayValue(source: Uint8Array, start: number, end: number, scale: number): number {
  const size = end - start
  if (size < 8 || size > 14) return -1
  const count = (size - 8) >> 1
  const sign = uint16At(source, start + 4)
  if (size !== 8 + 2 * count || uint16At(source, start) !== count || (sign !== POSITIVE && sign !== NEGATIVE)) return -1
  if (count === 0) return 0
  const last = end - 2
  let value = 0
  for (let at = start + 8; at < last; at += 2) {
    const group = uint16At(source, at)
    if (group > 9999) return -1
    value = value * 10000 + group
  }
  const group = uint16At(source, last)
  const exponent = 4 * (int16At(source, start + 2) - count + 1) + scale
  if (group > 9999 || exponent <= -4 || exponent > EXACT_DIGITS) return -1
  if (exponent >= 0) return (value * 10000 + group) * POWERS[exponent]
  const divisor = POWERS[-exponent]
  return group % divisor === 0 ? value * POWERS[4 + exponent] + group / divisor : -1
}

function smallFromGroups(source: Uint8Array, at: number, count: number, exponent: number, precision: number, scale: number): number {
  let value = 0
  const last = at + 2 * (count - 1)
  for (; at < last; at += 2) value = value * 10000 + groupAt(source, at)
  if (exponent >= 0) return (value * 10000 + groupAt(source, last)) * POWERS[exponent]
  const divisor = POWERS[-exponent]
  const group = groupAt(source, last)
  if (group % divisor !== 0) refuseDigits(precision, scale)
  return value * POWERS[4 + exponent] + group / divisor
}

function appendLarge(
  source: Uint8Array,
  at: number,
  count: number,
  exponent: number,
  negative: boolean,
  precision: number,
  scale: number,
  builder: ColumnBuilder,
): void {
  limbs.fill(0)
  const last = at + 2 * (count - 1)
  for (; at < last; at += 2) multiplyAdd(10000, groupAt(source, at))
  const group = groupAt(source, last)
  if (exponent >= 0) {
    multiplyAdd(10000, group)
    multiplyByPower(exponent)
  } else {
    const divisor = POWERS[-exponent]
    if (group % divisor !== 0) refuseDigits(precision, scale)
    multiplyAdd(POWERS[4 + exponent], group / divisor)
  }
  appendLimbs(negative, builder)
}

/** Decodes `-?digits[.digits]`, which is all that numeric's text form can be besides NaN and the infinities. */
export function textNumeric(precision: number, scale: number): DecodeValue {
  return (source, start, end, builder) => {
    const negative = source[start] === 0x2d
    const first = negative ? start + 1 : start
    if (first === end) malformedValue('numeric', 'empty')
    if (!isDigit(source[first])) refuseText(source, start, end, precision, scale)
    let point = first
    while (point < end && source[point] !== 0x2e) point++
    let from = first
    while (from < point && source[from] === 0x30) from++
    // Zeros past the scale say nothing; any other digit there cannot be kept.
    let to = end
    while (to - point - 1 > scale && source[to - 1] === 0x30) to--
    const fraction = Math.max(0, to - point - 1)
    const digits = point - from + scale
    if (digits > precision || fraction > scale) refuseDigits(precision, scale)
    if (digits <= EXACT_DIGITS) appendSmall(smallFromText(source, from, point, to) * POWERS[scale - fraction], negative, builder)
    else {
      limbsFromText(source, from, point, to)
      multiplyByPower(scale - fraction)
      appendLimbs(negative, builder)
    }
  }
}

function smallFromText(source: Uint8Array, from: number, point: number, to: number): number {
  let value = 0
  for (let at = from; at < to; at++) if (at !== point) value = value * 10 + digitAt(source, at)
  return value
}

function limbsFromText(source: Uint8Array, from: number, point: number, to: number): void {
  limbs.fill(0)
  let chunk = 0
  let factor = 1
  for (let at = from; at < to; at++) {
    if (at === point) continue
    chunk = chunk * 10 + digitAt(source, at)
    factor *= 10
    if (factor === 1_000_000) {
      multiplyAdd(factor, chunk)
      chunk = 0
      factor = 1
    }
  }
  if (factor > 1) multiplyAdd(factor, chunk)
}

/** `value` is an integer below 2^53. */
function appendSmall(value: number, negative: boolean, builder: ColumnBuilder): void {
  const low = value >>> 0
  const high = Math.floor(value / TWO_32)
  if (!negative || value === 0) builder.appendInt128(low, high, 0, 0)
  else builder.appendInt128(-low >>> 0, (~high + (low === 0 ? 1 : 0)) >>> 0, 0xffff_ffff, 0xffff_ffff)
}

function appendLimbs(negative: boolean, builder: ColumnBuilder): void {
  if (negative) {
    let carry = 1
    for (let index = 0; index < 4; index++) {
      const flipped = (~limbs[index] >>> 0) + carry
      limbs[index] = flipped
      carry = flipped === TWO_32 ? 1 : 0
    }
  }
  builder.appendInt128(limbs[0], limbs[1], limbs[2], limbs[3])
}

function multiplyAdd(factor: number, addend: number): void {
  let carry = addend
  for (let index = 0; index < 4; index++) {
    const product = limbs[index] * factor + carry
    const word = product >>> 0
    limbs[index] = word
    carry = (product - word) / TWO_32
  }
}

function multiplyByPower(exponent: number): void {
  for (let left = exponent; left > 0; left -= 6) multiplyAdd(POWERS[Math.min(left, 6)], 0)
}

function groupAt(source: Uint8Array, at: number): number {
  const group = uint16At(source, at)
  if (group > 9999) malformedValue('numeric', `the digit group ${group}`)
  return group
}

function digitCount(group: number): number {
  return group >= 1000 ? 4 : group >= 100 ? 3 : group >= 10 ? 2 : 1
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}

function digitAt(source: Uint8Array, at: number): number {
  const byte = source[at]
  if (!isDigit(byte)) malformedValue('numeric', `the character ${byte}`)
  return byte - 0x30
}

function refuseSign(sign: number, precision: number, scale: number): never {
  const name = SPECIAL.get(sign)
  if (name === undefined) malformedValue('numeric', `the sign ${sign}`)
  throw new BadValueError(name, `which decimal(${precision}, ${scale}) cannot hold`)
}

function refuseDigits(precision: number, scale: number): never {
  throw new BadValueError('a numeric with more digits', `than decimal(${precision}, ${scale}) can hold`)
}

function refuseText(source: Uint8Array, start: number, end: number, precision: number, scale: number): never {
  const text = shownText(source, start, end)
  if (text !== 'NaN' && text !== 'Infinity' && text !== '-Infinity') malformedValue('numeric', `"${text}"`)
  throw new BadValueError(text, `which decimal(${precision}, ${scale}) cannot hold`)
}

/** money: a 64-bit number of the smallest unit. */
export function binaryMoney(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 8, 'money')
  const high = int32At(source, start)
  const sign = high < 0 ? 0xffff_ffff : 0
  builder.appendInt128(int32At(source, start + 4) >>> 0, high >>> 0, sign, sign)
}

/** xid8: an unsigned 64-bit integer. */
export function binaryUint8(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 8, 'xid8')
  builder.appendInt128(int32At(source, start + 4) >>> 0, int32At(source, start) >>> 0, 0, 0)
}

/** money as any locale prints it: its digits are all there, and a minus sign or a bracket stands for less than nothing. */
export function textMoney(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  let negative = false
  let digits = 0
  limbs.fill(0)
  for (let at = start; at < end; at++) {
    const byte = source[at]
    if (isDigit(byte)) {
      multiplyAdd(10, byte - 0x30)
      digits++
    } else if (byte === 0x2d || byte === 0x28) negative = true
  }
  if (digits === 0) malformedValue('money', shownText(source, start, end))
  appendLimbs(negative, builder)
}
