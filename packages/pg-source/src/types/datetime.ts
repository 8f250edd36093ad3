import type { ColumnBuilder } from '@moonlink/core'
import { BadValueError, shownText } from './bad-value.ts'
import { checkSize, int32At, malformedValue } from './wire.ts'

/** Dates, times and timestamps. Postgres counts from 2000, Iceberg from 1970; 64-bit microseconds are handled as 32-bit halves. */

const TWO_32 = 0x1_0000_0000
export const EPOCH_DAYS = 10957
const EPOCH_MICROS = EPOCH_DAYS * 86_400_000_000
export const EPOCH_LOW = EPOCH_MICROS % TWO_32
export const EPOCH_HIGH = Math.floor(EPOCH_MICROS / TWO_32)
const DAY_MICROS = 86_400_000_000
const INT_MAX = 0x7fff_ffff
const INT_MIN = -0x8000_0000

export function binaryDate(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 4, 'date')
  const days = int32At(source, start)
  if (days === INT_MAX || days === INT_MIN) refuseInfinity(days > 0, 'date')
  if (days > INT_MAX - EPOCH_DAYS) malformedValue('date', `${days} days after 2000`)
  builder.appendInt32(days + EPOCH_DAYS)
}

export function binaryTimestamp(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 8, 'timestamp')
  const high = int32At(source, start)
  const low = int32At(source, start + 4) >>> 0
  if (high === INT_MAX && low === 0xffff_ffff) refuseInfinity(true, 'timestamp')
  if (high === INT_MIN && low === 0) refuseInfinity(false, 'timestamp')
  const sum = low + EPOCH_LOW
  const shifted = high + EPOCH_HIGH + (sum >= TWO_32 ? 1 : 0)
  if (shifted > INT_MAX || isLast(sum % TWO_32, shifted)) refuseLate()
  builder.appendInt64(sum, shifted)
}

/** µs since midnight as Iceberg's `time`, which ends before 24:00:00. */
export function binaryTime(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const micros = timeMicros(source, start, end)
  if (micros === DAY_MICROS) throw new BadValueError('24:00:00', 'which time cannot hold')
  builder.appendInt64(micros, Math.floor(micros / TWO_32))
}

function timeMicros(source: Uint8Array, start: number, end: number): number {
  checkSize(start, end, 8, 'time')
  const micros = int32At(source, start) * TWO_32 + (int32At(source, start + 4) >>> 0)
  if (micros < 0 || micros > DAY_MICROS) malformedValue('time', `${micros} µs`)
  return micros
}

// The text form. One cursor serves all of it: decoding is synchronous and never re-enters.
let text: Uint8Array
let at = 0
let stop = 0

/** `YYYY-MM-DD[ BC]`, `infinity` or `-infinity`. */
export function textDate(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  refuseInfinityText(source, start, end, 'date')
  begin(source, start, end)
  const days = readDays('date', isBeforeChrist(source, start, end))
  if (at !== stop) malformedText('date', start)
  if (days > INT_MAX) malformedText('date', start)
  builder.appendInt32(days)
}

/** `YYYY-MM-DD HH:MM:SS[.ffffff][±HH[:MM[:SS]]][ BC]`, or an infinity; an offset is taken off. */
export function textTimestamp(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  refuseInfinityText(source, start, end, 'timestamp')
  begin(source, start, end)
  const days = readDays('timestamp', isBeforeChrist(source, start, end))
  expect(0x20, 'timestamp')
  const secondOfDay = readClock('timestamp')
  const fraction = readFraction()
  const offset = readOffset()
  if (at !== stop) malformedText('timestamp', start)
  appendSeconds(days * 86_400 + secondOfDay - offset, fraction, builder)
}

export function textTime(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  begin(source, start, end)
  const seconds = readClock('time')
  const micros = seconds * 1_000_000 + readFraction()
  if (at !== stop || micros > DAY_MICROS) malformedText('time', start)
  if (micros === DAY_MICROS) throw new BadValueError('24:00:00', 'which time cannot hold')
  builder.appendInt64(micros, Math.floor(micros / TWO_32))
}

/** seconds × 10^6 + micros as 64 bits. The seconds are split, since the product passes 2^53. */
function appendSeconds(seconds: number, micros: number, builder: ColumnBuilder): void {
  const upper = Math.floor(seconds / TWO_32)
  const product = (seconds - upper * TWO_32) * 1_000_000 + micros
  const low = product % TWO_32
  const high = upper * 1_000_000 + (product - low) / TWO_32
  if (high > INT_MAX || high < INT_MIN || isLast(low, high)) refuseLate()
  builder.appendInt64(low, high)
}

/** DuckDB takes the greatest 64-bit integer for infinity. */
function isLast(low: number, high: number): boolean {
  return high === INT_MAX && low === 0xffff_ffff
}

function begin(source: Uint8Array, start: number, end: number): void {
  text = source
  at = start
  stop = end
}

/** Looks for the ` BC` that ends the text, and takes it off. */
function isBeforeChrist(source: Uint8Array, start: number, end: number): boolean {
  if (end - start < 3 || source[end - 1] !== 0x43 || source[end - 2] !== 0x42 || source[end - 3] !== 0x20) return false
  stop = end - 3
  return true
}

/** Days since 1970 in the proleptic Gregorian calendar. Counting years from March puts the leap day last. */
function readDays(type: string, beforeChrist: boolean): number {
  const printedYear = readNumber(7, type)
  expect(0x2d, type)
  const month = readNumber(2, type)
  expect(0x2d, type)
  const day = readNumber(2, type)
  if (month < 1 || month > 12 || day < 1 || day > 31) malformedValue(type, `month ${month}, day ${day}`)
  const year = (beforeChrist ? 1 - printedYear : printedYear) - (month <= 2 ? 1 : 0)
  const era = Math.floor(year / 400)
  const yearOfEra = year - era * 400
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
  return era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
}

/** Seconds since midnight. */
function readClock(type: string): number {
  const hour = readNumber(2, type)
  expect(0x3a, type)
  const minute = readNumber(2, type)
  expect(0x3a, type)
  const second = readNumber(2, type)
  if (hour > 24 || minute > 59 || second > 59) malformedValue(type, `${hour}:${minute}:${second}`)
  return hour * 3600 + minute * 60 + second
}

function readFraction(): number {
  if (at >= stop || text[at] !== 0x2e) return 0
  at++
  const from = at
  let micros = readNumber(6, 'time')
  for (let digits = at - from; digits < 6; digits++) micros *= 10
  return micros
}

/** Seconds east of UTC. */
function readOffset(): number {
  if (at >= stop || (text[at] !== 0x2b && text[at] !== 0x2d)) return 0
  const sign = text[at] === 0x2d ? -1 : 1
  at++
  let seconds = readNumber(2, 'timestamptz') * 3600
  for (let unit = 60; unit >= 1 && at < stop && text[at] === 0x3a; unit /= 60) {
    at++
    seconds += readNumber(2, 'timestamptz') * unit
  }
  return sign * seconds
}

function readNumber(maxDigits: number, type: string): number {
  const from = at
  let value = 0
  while (at < stop && at - from < maxDigits) {
    const digit = text[at] - 0x30
    if (digit < 0 || digit > 9) break
    value = value * 10 + digit
    at++
  }
  if (at === from) malformedValue(type, 'a digit is missing; the connection needs datestyle=ISO')
  return value
}

function expect(byte: number, type: string): void {
  if (at >= stop || text[at] !== byte) malformedValue(type, `no "${String.fromCharCode(byte)}"; the connection needs datestyle=ISO`)
  at++
}

function malformedText(type: string, start: number): never {
  malformedValue(type, `"${shownText(text, start, stop)}"`)
}

function refuseInfinityText(source: Uint8Array, start: number, end: number, type: string): void {
  const sign = source[start] === 0x2d ? 1 : 0
  if (end - start === 8 + sign && source[start + sign] === 0x69) refuseInfinity(sign === 0, type)
}

function refuseInfinity(positive: boolean, type: string): never {
  throw new BadValueError(positive ? 'infinity' : '-infinity', `which ${type} cannot hold`)
}

function refuseLate(): never {
  throw new BadValueError('a timestamp after 294247-01-10 04:00:54.775806', 'which timestamp cannot hold')
}
