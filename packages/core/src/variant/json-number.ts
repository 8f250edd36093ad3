import type { ByteSink } from '../byte-sink.ts'
import { PrimitiveId } from './variant-format.ts'
import { malformedJson } from './variant-error.ts'

/** Digits that a decimal of Variant has at most, and its greatest scale. */
const MAX_DIGITS = 38
/** Any integer of so many digits is exact in a double. */
const EXACT_DIGITS = 15
const TWO_32 = 0x1_0000_0000
/** An exponent this large fits no decimal, whatever else the number has. */
const MAX_EXPONENT = 1_000_000

const MINUS = 0x2d
const PLUS = 0x2b
const POINT = 0x2e
const ZERO = 0x30
const LOWER_E = 0x65

/** A number of JSON text as Postgres' `numeric` takes it: an unscaled integer and a scale, which keeps zeros at the end. */
export class JsonNumber {
  isNegative = false
  /** Of the unscaled integer, without zeros in front: 0 for zero. */
  digitCount = 0
  /** Digits after the point. */
  scale = 0
  private readonly digits = new Uint8Array(MAX_DIGITS)

  /** Whether Variant has an exact type for it: at most 38 digits, at most 38 of them after the point. */
  get fits(): boolean {
    return this.digitCount <= MAX_DIGITS && this.scale <= MAX_DIGITS
  }

  /** Reads the number that begins at `at`, and returns where it ends. Throws `invalid`/`VARIANT_JSON_MALFORMED`. */
  read(source: Uint8Array, at: number, end: number): number {
    this.isNegative = source[at] === MINUS
    this.digitCount = 0
    let next = this.isNegative ? at + 1 : at
    const first = next
    next = this.readDigits(source, next, end)
    if (next === first || (source[first] === ZERO && next > first + 1)) throw malformedJson(source, at, end)
    let fraction = 0
    if (next < end && source[next] === POINT) {
      const start = next + 1
      next = this.readDigits(source, start, end)
      fraction = next - start
      if (fraction === 0) throw malformedJson(source, at, end)
    }
    let exponent = 0
    if (next < end && (source[next] | 0x20) === LOWER_E) {
      const sign = source[++next]
      if (sign === MINUS || sign === PLUS) next++
      const start = next
      for (; next < end && isDigit(source[next]); next++) exponent = Math.min(MAX_EXPONENT, exponent * 10 + source[next] - ZERO)
      if (next === start) throw malformedJson(source, at, end)
      if (sign === MINUS) exponent = -exponent
    }
    this.scale = fraction - exponent
    if (this.scale < 0) this.multiply(-this.scale)
    return next
  }

  /** Appends it in the narrowest type that holds it exactly; it must fit. */
  append(sink: ByteSink): void {
    if (this.scale === 0 && this.digitCount <= EXACT_DIGITS) return appendInteger(sink, this.small())
    const digits = Math.max(this.digitCount, this.scale)
    if (this.scale > 0 && this.digitCount <= EXACT_DIGITS && digits <= 18) return this.appendSmallDecimal(sink, digits)
    const unscaled = this.unscaled()
    if (this.scale === 0 && BigInt.asIntN(64, unscaled) === unscaled) {
      sink.reserve(9)
      sink.bytes[sink.length] = PrimitiveId.int64 << 2
      sink.view.setBigInt64(sink.length + 1, unscaled, true)
      sink.length += 9
      return
    }
    const size = digits <= 18 ? 8 : 16
    sink.reserve(18)
    this.appendDecimalHeader(sink, size)
    sink.view.setBigInt64(sink.length, BigInt.asIntN(64, unscaled), true)
    if (size === 16) sink.view.setBigInt64(sink.length + 8, unscaled >> 64n, true)
    sink.length += size
  }

  private appendSmallDecimal(sink: ByteSink, digits: number): void {
    const size = digits <= 9 ? 4 : 8
    sink.reserve(10)
    this.appendDecimalHeader(sink, size)
    const value = this.small()
    sink.view.setInt32(sink.length, value % TWO_32, true)
    if (size === 8) sink.view.setInt32(sink.length + 4, Math.floor(value / TWO_32), true)
    sink.length += size
  }

  private appendDecimalHeader(sink: ByteSink, size: number): void {
    const type = size === 4 ? PrimitiveId.decimal4 : size === 8 ? PrimitiveId.decimal8 : PrimitiveId.decimal16
    sink.bytes[sink.length] = type << 2
    sink.bytes[sink.length + 1] = this.scale
    sink.length += 2
  }

  private readDigits(source: Uint8Array, at: number, end: number): number {
    let next = at
    for (; next < end && isDigit(source[next]); next++) {
      const digit = source[next] - ZERO
      if (digit > 0 || this.digitCount > 0) {
        if (this.digitCount < MAX_DIGITS) this.digits[this.digitCount] = digit
        this.digitCount++
      }
    }
    return next
  }

  /** Puts zeros behind the digits. */
  private multiply(zeros: number): void {
    this.scale = 0
    if (this.digitCount === 0) return
    if (this.digitCount < MAX_DIGITS) this.digits.fill(0, this.digitCount)
    this.digitCount += zeros
  }

  private small(): number {
    let value = 0
    for (let index = 0; index < this.digitCount; index++) value = value * 10 + this.digits[index]
    return this.isNegative && value > 0 ? -value : value
  }

  private unscaled(): bigint {
    let value = 0n
    for (let index = 0; index < this.digitCount; index++) value = value * 10n + BigInt(this.digits[index])
    return this.isNegative ? -value : value
  }
}

/** An integer below 2^53. */
function appendInteger(sink: ByteSink, value: number): void {
  sink.reserve(9)
  const { view, length } = sink
  if (value >= -0x80 && value < 0x80) {
    sink.bytes[length] = PrimitiveId.int8 << 2
    view.setInt8(length + 1, value)
    sink.length += 2
  } else if (value >= -0x8000 && value < 0x8000) {
    sink.bytes[length] = PrimitiveId.int16 << 2
    view.setInt16(length + 1, value, true)
    sink.length += 3
  } else if (value >= -0x8000_0000 && value < 0x8000_0000) {
    sink.bytes[length] = PrimitiveId.int32 << 2
    view.setInt32(length + 1, value, true)
    sink.length += 5
  } else {
    sink.bytes[length] = PrimitiveId.int64 << 2
    view.setInt32(length + 1, value % TWO_32, true)
    view.setInt32(length + 5, Math.floor(value / TWO_32), true)
    sink.length += 9
  }
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= ZERO + 9
}
