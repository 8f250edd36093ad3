import { isMoonlinkError, MoonlinkError, type ErrorKind } from '@moonlink/core'
import type { z } from 'zod'
import { requirement } from '../config/requirement.ts'
import { stoppingError } from '../service/stopping.ts'
import type { ErrorBody } from './schemas.ts'

const statusOfKind: Readonly<Record<ErrorKind, number>> = { retry: 503, conflict: 409, fenced: 409, invalid: 400, corrupt: 500, bug: 500 }
/** Characters of a message about what somebody sent. */
const MAX_MESSAGE = 2000
const statusOfCode: Readonly<Record<string, number>> = {
  TIMED_OUT: 504,
  TABLE_NOT_FOUND: 404,
  TABLE_UNKNOWN: 404,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  UNAUTHORIZED: 401,
  CROSS_SITE: 403,
  BODY_TOO_LARGE: 413,
}

/** What a request that is under way meets where the backend ends. */
const codesOfTheEnd = new Set(['ENGINE_CLOSED', 'PG_SOURCE_CLOSED', 'PARQUET_POOL_CLOSED'])

export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 409 | 413 | 500 | 503 | 504

/** The HTTP status that fits an error. */
export function statusOf(error: MoonlinkError): ErrorStatus {
  return (statusOfCode[error.code] ?? statusOfKind[error.kind]) as ErrorStatus
}

/** Any thrown thing as ours; what is not ours is a bug, and says no more than its message. */
export function toMoonlinkError(error: unknown): MoonlinkError {
  if (isMoonlinkError(error)) return error
  const message = error instanceof Error ? error.message : String(error)
  return new MoonlinkError('bug', 'UNEXPECTED', oneLine(message) || 'an unexpected error', { cause: error })
}

/** What is answered to a request that met `thrown`. */
export function answeredError(thrown: unknown): MoonlinkError {
  const error = toMoonlinkError(thrown)
  return codesOfTheEnd.has(error.code) ? stoppingError(error) : error
}

export function errorBody(error: MoonlinkError): ErrorBody {
  return { error: { kind: error.kind, code: error.code, message: oneLine(error.message), context: plain(error.context) } }
}

export function oneLine(text: string): string {
  // Not by one expression: blanks without an end, tried anew from each of them, take for ever.
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .join(' ')
}

/** Says which field of a request is wrong, and how. */
export function invalidRequest(issues: readonly z.core.$ZodIssue[], input: unknown): MoonlinkError {
  const problems = issues.map((issue) => problemOf(issue, input))
  return new MoonlinkError('invalid', 'REQUEST_INVALID', shorten(problems.join('; '), MAX_MESSAGE))
}

function problemOf(issue: z.core.$ZodIssue, input: unknown): string {
  const place = issue.path.length === 0 ? 'the request' : issue.path.join('.')
  if (issue.code === 'unrecognized_keys') return `${place} takes no ${issue.keys.map((key) => shorten(JSON.stringify(key))).join(', ')}`
  const value = valueAt(input, issue.path)
  if (value === undefined) return `${place} is missing: it ${requirement(issue)}`
  return value === '' && issue.code === 'too_small'
    ? `${place} ${issue.message}`
    : `${place}: ${shorten(JSON.stringify(value))} ${requirement(issue)}`
}

function shorten(text: string, length = 200): string {
  return text.length > length ? `${text.slice(0, length)}…` : text
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input
  for (const key of path) value = (value as Record<PropertyKey, unknown>)[key]
  return value
}

function plain(context: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return JSON.parse(JSON.stringify(context, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))) as Record<
    string,
    unknown
  >
}
