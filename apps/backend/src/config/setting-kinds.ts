import { tableName } from '@moonlink/pg-source'
import { z } from 'zod'
import { formatBytes, formatDuration, parseBytes, parseDurationMs, withoutZero } from './units.ts'

const numberOrText = z.union([z.number(), z.string()])

interface Bounds {
  /** In bytes or milliseconds. */
  readonly least?: number
  readonly most?: number
  /** Whether 0, as "never" or "no limit", is allowed below `least`. */
  readonly orZero?: boolean
}

/** What is wrong with a size or time that was understood; null where nothing is. */
function outOfBounds(
  value: number,
  { least = 0, most = Number.MAX_SAFE_INTEGER, orZero = false }: Bounds,
  format: (value: number) => string,
) {
  if (value > most) return `is too much: ${withoutZero(format(most))} at most`
  if (value >= least || (orZero && value === 0)) return null
  return `is too little: at least ${withoutZero(format(least))}${orZero ? ', or 0' : ''}`
}

/** A size in bytes: a number, or text with a unit. */
export const bytes = (fallback: string, description: string, bounds: Bounds = {}) =>
  numberOrText
    .transform((value, context) => {
      const parsed = parseBytes(value)
      const wrong =
        parsed === null || !Number.isSafeInteger(parsed)
          ? 'is not a size; write bytes (1048576) or a number with KiB, MiB, GiB, kB, MB, GB (512MiB)'
          : outOfBounds(parsed, { least: 1, ...bounds }, formatBytes)
      if (wrong === null) return parsed!
      context.addIssue({ code: 'custom', message: wrong })
      return z.NEVER
    })
    .prefault(fallback)
    .describe(description)

/** A time in milliseconds: a number, or text with a unit. */
export const durationMs = (fallback: string, description: string, bounds: Bounds = {}) =>
  numberOrText
    .transform((value, context) => {
      const parsed = parseDurationMs(value)
      const wrong =
        parsed === null || !Number.isSafeInteger(parsed)
          ? 'is not a time; write milliseconds (5000) or a number with ms, s, m, h, d (5s)'
          : outOfBounds(parsed, bounds, formatDuration)
      if (wrong === null) return parsed!
      context.addIssue({ code: 'custom', message: wrong })
      return z.NEVER
    })
    .prefault(fallback)
    .describe(description)

/** From the environment a number comes as text. Nothing else becomes one. */
const numberFromText = (value: unknown) => (typeof value === 'string' && /^\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : value)
export const count = (fallback: number, description: string, least = 1, most = Number.MAX_SAFE_INTEGER) =>
  z.preprocess(numberFromText, z.number().int().min(least).max(most)).prefault(fallback).describe(description)
export const fraction = (fallback: number, description: string) =>
  z.preprocess(numberFromText, z.number().min(0).max(1)).prefault(fallback).describe(description)
export const boolean = z.union([z.boolean(), z.enum(['true', 'false']).transform((text) => text === 'true')])
export const truth = (fallback: boolean, description: string) => boolean.prefault(fallback).describe(description)

/** From the environment a list comes as text with commas. */
export const tableNames = (description: string) =>
  z
    .union([
      z.array(tableName),
      z
        .string()
        .transform((text) => text.split(',').map((name) => name.trim()))
        .pipe(z.array(tableName)),
    ])
    .prefault([])
    .describe(description)
