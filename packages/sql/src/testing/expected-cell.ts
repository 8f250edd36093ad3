import type { FieldType, Value } from '@moonlink/core'
import type { Cell } from '../cells.ts'

/** The cell that a value of `valueAt`'s form must come back as, worked out without DuckDB. */
export function expectedCell(type: FieldType, value: Value): Cell {
  if (value === null) return null
  switch (type.kind) {
    case 'float':
      return expectedNumber(fewestDigits(Math.fround(value as number)))
    case 'double':
      return expectedNumber(value as number)
    case 'long':
      return BigInt(Number(value)) === value && Number.isSafeInteger(Number(value)) ? Number(value) : (value as bigint)
    case 'date':
      return expectedDate(value as number)
    case 'time':
      return isoOf((value as bigint) / 1000n).slice(11, 19) + fraction(value as bigint)
    case 'timestamp':
    case 'timestamptz':
      return expectedTimestamp(value as bigint, type.kind === 'timestamptz' ? '+00' : '')
    case 'decimal':
      return expectedDecimal(value as bigint, type.scale)
    case 'uuid':
      return hex(value as Uint8Array).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
    case 'binary':
    case 'fixed':
      return `\\x${hex(value as Uint8Array)}`
    case 'list':
      return (value as readonly Value[]).map((element) => expectedCell(type.element, element))
    case 'struct':
      return Object.fromEntries(
        type.fields.map(({ name, type: part }, index) => [name, expectedCell(part, (value as readonly Value[])[index])]),
      )
    default:
      return value as Cell
  }
}

function expectedNumber(value: number): Cell {
  return Number.isFinite(value) ? value : String(value)
}

function fewestDigits(float: number): number {
  const shorter = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((digits) => Number(float.toPrecision(digits)))
  return shorter.find((number) => Object.is(Math.fround(number), float)) ?? float
}

function expectedDate(days: number): string {
  return era(new Date(days * 86_400_000).toISOString().slice(0, -14))
}

function expectedTimestamp(micros: bigint, zone: string): string {
  const floor = micros >= 0n ? micros / 1000n : -((999n - micros) / 1000n)
  const [date, time] = isoOf(floor).split('T') as [string, string]
  return era(date, ` ${time.slice(0, 8)}${fraction(((micros % 1_000_000n) + 1_000_000n) % 1_000_000n)}${zone}`)
}

function isoOf(ms: bigint): string {
  return new Date(Number(ms)).toISOString()
}

/** JavaScript writes years outside 0 … 9999 with a sign and six digits; Postgres counts years before 1 as BC. */
function era(date: string, rest = ''): string {
  const match = /^([+-]?\d+)-(\d\d-\d\d)$/.exec(date)!
  const year = Number(match[1])
  const printed = String(year > 0 ? year : 1 - year).padStart(4, '0')
  return `${printed}-${match[2]}${rest}${year > 0 ? '' : ' BC'}`
}

function fraction(micros: bigint): string {
  const digits = String(micros % 1_000_000n)
    .padStart(6, '0')
    .replace(/0+$/, '')
  return digits === '' ? '' : `.${digits}`
}

function expectedDecimal(unscaled: bigint, scale: number): string {
  const text = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0')
  const split = text.length - scale
  return `${unscaled < 0n ? '-' : ''}${text.slice(0, split)}${scale > 0 ? '.' : ''}${text.slice(split)}`
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
