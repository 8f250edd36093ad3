import type { TextSink } from './text-sink.ts'
import { checkSize, int32At, malformedValue } from './wire.ts'

/** Renderers (see `RenderText`) of dates, times, timestamps and intervals: ISO, UTC, `intervalstyle=postgres`. */

const TWO_32 = 0x1_0000_0000
const INT_MAX = 0x7fff_ffff
const INT_MIN = -0x8000_0000
const DAY_SECONDS = 86_400
const MICROS = 1_000_000
/** Days from 0000-03-01 to 2000-01-01 in the proleptic Gregorian calendar. */
const DAYS_TO_2000 = 730_425

export function renderDate(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 4, 'date')
  const days = int32At(source, start)
  if (days === INT_MAX) return sink.ascii('infinity')
  if (days === INT_MIN) return sink.ascii('-infinity')
  const isBeforeChrist = renderDay(days, sink)
  if (isBeforeChrist) sink.ascii(' BC')
}

export function renderTimestamp(zone: '' | '+00') {
  return (source: Uint8Array, start: number, end: number, sink: TextSink): void => {
    checkSize(start, end, 8, 'timestamp')
    const high = int32At(source, start)
    const low = int32At(source, start + 4) >>> 0
    if (high === INT_MAX && low === 0xffff_ffff) return sink.ascii('infinity')
    if (high === INT_MIN && low === 0) return sink.ascii('-infinity')
    const { seconds, micros } = splitMicros(high, low)
    const days = Math.floor(seconds / DAY_SECONDS)
    const isBeforeChrist = renderDay(days, sink)
    sink.byte(0x20)
    renderClock(seconds - days * DAY_SECONDS, micros, sink)
    sink.ascii(zone)
    if (isBeforeChrist) sink.ascii(' BC')
  }
}

export function renderTime(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 8, 'time')
  renderTimeOfDay(source, start, sink)
}

/** time and its offset, which travels as seconds west of UTC. */
export function renderTimetz(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 12, 'timetz')
  renderTimeOfDay(source, start, sink)
  const west = int32At(source, start + 8)
  const offset = Math.abs(west)
  sink.byte(west <= 0 ? 0x2b : 0x2d)
  sink.integer(Math.floor(offset / 3600), 2)
  if (offset % 3600 === 0) return
  sink.byte(0x3a)
  sink.integer(Math.floor(offset / 60) % 60, 2)
  if (offset % 60 === 0) return
  sink.byte(0x3a)
  sink.integer(offset % 60, 2)
}

/** `1 year 2 mons -3 days +04:05:06.7`. The sign of what follows a negative part is printed. */
export function renderInterval(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 16, 'interval')
  const high = int32At(source, start)
  const low = int32At(source, start + 4) >>> 0
  const days = int32At(source, start + 8)
  const months = int32At(source, start + 12)
  if (high === INT_MAX && low === 0xffff_ffff && days === INT_MAX && months === INT_MAX) return sink.ascii('infinity')
  if (high === INT_MIN && low === 0 && days === INT_MIN && months === INT_MIN) return sink.ascii('-infinity')
  const first = sink.length
  let isAfterNegative = false
  const unit = (count: number, name: string) => {
    if (count === 0) return
    if (sink.length > first) sink.byte(0x20)
    if (isAfterNegative && count > 0) sink.byte(0x2b)
    sink.integer(count)
    sink.ascii(count === 1 ? name : `${name}s`)
    isAfterNegative = count < 0
  }
  unit(Math.trunc(months / 12), ' year')
  unit(months % 12, ' mon')
  unit(days, ' day')
  if (high === 0 && low === 0 && sink.length > first) return
  if (sink.length > first) sink.byte(0x20)
  if (high < 0) sink.byte(0x2d)
  else if (isAfterNegative) sink.byte(0x2b)
  const { seconds, micros } = high < 0 ? splitMicros(~high + (low === 0 ? 1 : 0), -low >>> 0) : splitMicros(high, low)
  renderClock(seconds, micros, sink)
}

function renderTimeOfDay(source: Uint8Array, start: number, sink: TextSink): void {
  const { seconds, micros } = splitMicros(int32At(source, start), int32At(source, start + 4) >>> 0)
  if (seconds < 0 || seconds > DAY_SECONDS || (seconds === DAY_SECONDS && micros > 0)) malformedValue('time', `${seconds} seconds`)
  renderClock(seconds, micros, sink)
}

/** Whole seconds (rounded down) and the rest of a 64-bit number of microseconds. */
function splitMicros(high: number, low: number): { readonly seconds: number; readonly micros: number } {
  const upper = Math.floor(high / MICROS)
  const rest = (high - upper * MICROS) * TWO_32 + low
  const lower = Math.floor(rest / MICROS)
  return { seconds: upper * TWO_32 + lower, micros: rest - lower * MICROS }
}

/** `HH:MM:SS[.ffffff]` without zeros at the end. Hours may exceed 24. */
function renderClock(seconds: number, micros: number, sink: TextSink): void {
  sink.integer(Math.floor(seconds / 3600), 2)
  sink.byte(0x3a)
  sink.integer(Math.floor(seconds / 60) % 60, 2)
  sink.byte(0x3a)
  sink.integer(seconds % 60, 2)
  if (micros === 0) return
  sink.byte(0x2e)
  sink.integer(micros, 6)
  while (sink.bytes[sink.length - 1] === 0x30) sink.length--
}

/** `YYYY-MM-DD` of a day counted from 2000-01-01; returns whether ` BC` belongs behind it. */
function renderDay(days: number, sink: TextSink): boolean {
  // Years from March put the leap day last.
  const shifted = days + DAYS_TO_2000
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const fromMarch = Math.floor((5 * dayOfYear + 2) / 153)
  const month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
  const year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)
  sink.integer(year > 0 ? year : 1 - year, 4)
  sink.byte(0x2d)
  sink.integer(month, 2)
  sink.byte(0x2d)
  sink.integer(dayOfYear - Math.floor((153 * fromMarch + 2) / 5) + 1, 2)
  return year <= 0
}
