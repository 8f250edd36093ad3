import type { FieldType } from '../types.ts'
import type { Value } from './value.ts'

const DAY_MICROS = 86_400_000_000n
/** 0001-01-01 and 9999-12-31: beyond, readers' date types end. */
const FIRST_DAY = -719_162
const LAST_DAY = 2_932_896

/**
 * Whether a value can be a field's default in Iceberg's JSON as every reader understands it. Not: values of nested types and variants, NaN and
 * infinities, -0.0, and days outside of the years 1 to 9999.
 */
export function isDefaultable(type: FieldType, value: Value): boolean {
  if (value === null) return true
  switch (type.kind) {
    case 'float':
    case 'double':
      return Number.isFinite(value) && !Object.is(value, -0)
    case 'date':
      return isDay(value as number)
    case 'timestamp':
    case 'timestamptz':
      return isDay(Number(floorDiv(value as bigint, DAY_MICROS)))
    case 'time':
      return (value as bigint) < DAY_MICROS
    case 'variant':
    case 'list':
    case 'struct':
      return false
    default:
      return true
  }
}

function isDay(day: number): boolean {
  return day >= FIRST_DAY && day <= LAST_DAY
}

function floorDiv(value: bigint, divisor: bigint): bigint {
  const quotient = value / divisor
  return value % divisor < 0n ? quotient - 1n : quotient
}
