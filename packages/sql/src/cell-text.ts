/** Text of values as Postgres prints them with `DateStyle = ISO` and `TimeZone = UTC`. */

const DAY_SECONDS = 86_400
const SECOND_MICROS = 1_000_000n

/** `2026-11-23`, `0044-03-15 BC`. */
export function dateText(days: number): string {
  if (days === 2_147_483_647) return 'infinity'
  if (days === -2_147_483_647) return '-infinity'
  const { date, era } = calendarDate(days)
  return date + era
}

/** `2026-11-23 10:00:00.5`, with `zone` (such as `+00`) before the era. Microseconds since 1970. */
export function timestampText(micros: bigint, zone: string): string {
  if (micros === 9_223_372_036_854_775_807n) return 'infinity'
  if (micros === -9_223_372_036_854_775_807n) return '-infinity'
  let seconds = Number(micros / SECOND_MICROS)
  let fraction = Number(micros % SECOND_MICROS)
  if (fraction < 0) {
    fraction += 1_000_000
    seconds -= 1
  }
  const days = Math.floor(seconds / DAY_SECONDS)
  const { date, era } = calendarDate(days)
  return `${date} ${clockText(seconds - days * DAY_SECONDS, fraction)}${zone}${era}`
}

/** `10:00:00.5`. Microseconds since midnight. */
export function timeText(micros: bigint): string {
  return clockText(Number(micros / SECOND_MICROS), Number(micros % SECOND_MICROS))
}

/** `-12.50`. */
export function decimalText(unscaled: bigint, scale: number): string {
  const sign = unscaled < 0n ? '-' : ''
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
  return scale === 0 ? sign + digits : `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}

/** `1 year 2 mons -3 days 04:05:06`. */
export function intervalText(months: number, days: number, micros: bigint): string {
  const parts: string[] = []
  const unit = (count: number, one: string, many: string) => {
    if (count !== 0) parts.push(`${count} ${count === 1 ? one : many}`)
  }
  unit(Math.trunc(months / 12), 'year', 'years')
  unit(months % 12, 'mon', 'mons')
  unit(days, 'day', 'days')
  if (micros !== 0n || parts.length === 0) parts.push(micros < 0n ? `-${timeText(-micros)}` : timeText(micros))
  return parts.join(' ')
}

/** Smallest 32-bit float of full precision; what is less has fewer digits than six to give. */
const SMALLEST_NORMAL_FLOAT = 2 ** -126

/** The number of the fewest digits that is nearest to the 32-bit float `value`: 0.1 for what is 0.10000000149011612. */
export function shortestFloat(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value
  // Six digits always survive a float, and nine always name one.
  for (let digits = Math.abs(value) < SMALLEST_NORMAL_FLOAT ? 1 : 6; digits < 9; digits++) {
    const shorter = Number(value.toPrecision(digits))
    if (Math.fround(shorter) === value) return shorter
  }
  return Number(value.toPrecision(9))
}

/** `\x00ff`. */
export function bytesText(bytes: Uint8Array): string {
  return `\\x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}`
}

function clockText(seconds: number, micros: number): string {
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    .map((part) => String(part).padStart(2, '0'))
    .join(':')
  return micros === 0 ? clock : `${clock}.${String(micros).padStart(6, '0').replace(/0+$/, '')}`
}

/** The proleptic Gregorian calendar, counting years from March so that the leap day comes last. */
function calendarDate(days: number): { readonly date: string; readonly era: string } {
  const shifted = days + 719_468
  const cycle = Math.floor(shifted / 146_097)
  const dayOfCycle = shifted - cycle * 146_097
  const yearOfCycle = Math.floor(
    (dayOfCycle - Math.floor(dayOfCycle / 1460) + Math.floor(dayOfCycle / 36_524) - Math.floor(dayOfCycle / 146_096)) / 365,
  )
  const dayOfYear = dayOfCycle - (365 * yearOfCycle + Math.floor(yearOfCycle / 4) - Math.floor(yearOfCycle / 100))
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153)
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  const year = yearOfCycle + cycle * 400 + (month <= 2 ? 1 : 0)
  const pad = (part: number, width: number) => String(part).padStart(width, '0')
  return { date: `${pad(year > 0 ? year : 1 - year, 4)}-${pad(month, 2)}-${pad(day, 2)}`, era: year > 0 ? '' : ' BC' }
}
