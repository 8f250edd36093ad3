/** Values as Postgres' output functions print them, made from what a reader of the mirror gets; none of it is the product's code. */

export function boolText(value: unknown): string {
  return value === true ? 't' : 'f'
}

/** `float8out`: the shortest digits that read back as the same double. */
export function float8Text(value: unknown): string {
  if (typeof value !== 'number' || !Number.isFinite(value)) return String(value)
  return floatText(value, shortest(Math.abs(value), 53, Number), 15)
}

/** `float4out`: the shortest digits that read back as the same float. */
export function float4Text(value: unknown): string {
  if (typeof value !== 'number' || !Number.isFinite(value)) return String(value)
  return floatText(value, shortest(Math.fround(Math.abs(value)), 24, Math.fround), 6)
}

/**
 * As `toExponential` has it. Digits that lie halfway to the next number read back right only where halves are rounded to even, so
 * Postgres takes more. Of two texts as short and as near it takes the even one.
 */
function shortest(magnitude: number, mantissaBits: number, round: (value: number) => number): string {
  for (let digits = 0; digits < 17; digits++) {
    const text = evenOfTwo(magnitude, digits)
    if (round(Number(text)) === magnitude && !isHalfway(magnitude, text, mantissaBits)) return text
  }
  return magnitude.toExponential(16)
}

function evenOfTwo(magnitude: number, digits: number): string {
  const [exact, exponent] = magnitude.toExponential(20).split('e') as [string, string]
  const kept = exact.slice(0, digits === 0 ? 1 : digits + 2)
  const isTie = /^\.?50*$/.test(exact.slice(kept.length)) && Number(kept.at(-1)) % 2 === 0
  return isTie ? `${kept}e${exponent}` : magnitude.toExponential(digits)
}

/** Only of large whole numbers are there texts so short that lie halfway. */
function isHalfway(magnitude: number, text: string, mantissaBits: number): boolean {
  const [mantissa, exponent] = text.split('e') as [string, string]
  const digits = mantissa.replace('.', '')
  const zeros = Number(exponent) - digits.length + 1
  if (magnitude < 2 ** mantissaBits || zeros < 0) return false
  const whole = BigInt(digits) * 10n ** BigInt(zeros)
  const exact = BigInt(magnitude)
  const unit = 2n ** BigInt(exact.toString(2).length - mantissaBits)
  return 2n * (whole > exact ? whole - exact : exact - whole) === unit
}

/** Written out while the exponent lies in [-4, limit), else `d.ddde±dd`. */
function floatText(value: number, exponential: string, limit: number): string {
  const sign = value < 0 || Object.is(value, -0) ? '-' : ''
  const [mantissa, power] = exponential.split('e') as [string, string]
  const digits = mantissa.replace('.', '')
  const exponent = Number(power)
  if (exponent < -4 || exponent >= limit) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : ''
    return `${sign}${digits[0]}${fraction}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  const whole = digits.padEnd(exponent + 1, '0')
  return whole.length > exponent + 1 ? `${sign}${whole.slice(0, exponent + 1)}.${whole.slice(exponent + 1)}` : sign + whole
}

/** Elements of an array; those of an array with more dimensions are arrays themselves. */
export type ArrayElements = readonly (string | null | ArrayElements)[]

/** `array_out`; every dimension begins at 1. */
export function arrayText(elements: ArrayElements): string {
  const texts = elements.map((element) => {
    if (element === null) return 'NULL'
    return typeof element === 'string' ? quotedElement(element) : arrayText(element)
  })
  return `{${texts.join(',')}}`
}

/** `record_out`. */
export function recordText(parts: readonly (string | null)[]): string {
  const texts = parts.map((part) => {
    if (part === null) return ''
    return part === '' || /["\\(),\t\n\v\f\r ]/.test(part) ? `"${part.replace(/["\\]/g, '$&$&')}"` : part
  })
  return `(${texts.join(',')})`
}

/** `cash_out` in the C locale, of a decimal's text. */
export function moneyText(decimal: string): string {
  const [whole, fraction] = decimal.replace('-', '').split('.') as [string, string]
  return `${decimal.startsWith('-') ? '-' : ''}$${whole.replace(/\B(?=(\d{3})+$)/g, ',')}.${fraction}`
}

function quotedElement(text: string): string {
  const isPlain = text !== '' && !/^null$/i.test(text) && !/["\\{},\t\n\v\f\r ]/.test(text)
  return isPlain ? text : `"${text.replace(/["\\]/g, '\\$&')}"`
}

/** Days since 1970 as `2026-11-23` or `0044-03-15 BC`. */
export function dateText(days: number): string {
  const [date, era] = dateParts(BigInt(days))
  return date + era
}

/** Microseconds since 1970 as `2026-11-23 10:00:00.5`, with the zone before the era. */
export function timestampText(micros: bigint, zone: string): string {
  const days = floorDiv(micros, 86_400_000_000n)
  const [date, era] = dateParts(days)
  return `${date} ${timeText(micros - days * 86_400_000_000n)}${zone}${era}`
}

/** Microseconds since midnight. */
export function timeText(micros: bigint): string {
  const pad = (value: bigint) => String(value).padStart(2, '0')
  const seconds = micros / 1_000_000n
  const clock = `${pad(seconds / 3600n)}:${pad((seconds / 60n) % 60n)}:${pad(seconds % 60n)}`
  const fraction = String(micros % 1_000_000n)
    .padStart(6, '0')
    .replace(/0+$/, '')
  return fraction === '' ? clock : `${clock}.${fraction}`
}

export function decimalText(unscaled: bigint, scale: number): string {
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0')
  const sign = unscaled < 0n ? '-' : ''
  return scale === 0 ? sign + digits : `${sign}${digits.slice(0, digits.length - scale)}.${digits.slice(digits.length - scale)}`
}

/** The Gregorian calendar repeats every 400 years: a date within the first cycle is JavaScript's own to tell. */
function dateParts(days: bigint): [date: string, era: string] {
  const cycle = floorDiv(days, 146_097n)
  const date = new Date(Number(days - cycle * 146_097n) * 86_400_000)
  const year = date.getUTCFullYear() + Number(cycle) * 400
  const monthAndDay = date.toISOString().slice(4, 10)
  return year > 0 ? [String(year).padStart(4, '0') + monthAndDay, ''] : [String(1 - year).padStart(4, '0') + monthAndDay, ' BC']
}

function floorDiv(a: bigint, b: bigint): bigint {
  return a / b - (a % b < 0n ? 1n : 0n)
}
