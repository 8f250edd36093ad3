import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Logger } from '@moonlink/core'
import { visibleJson } from '../visible.ts'
import { oneLine } from '../http/errors.ts'
import { destination, pino, type Level } from 'pino'

/** What a log that can't be written may hold of lines to come; those beyond are lost. */
const HELD_BYTES = 1024 * 1024

/** JSON lines to a file, or to stderr where `path` is null. Whoever logs never hears of a disk that is full: lines are held for a while, and written once there is room. */
export function createLogger(level: Level | 'silent', path: string | null): Logger {
  if (path !== null) mkdirSync(dirname(path), { recursive: true })
  const target = destination({ ...(path === null ? { fd: 2 } : { dest: path, append: true }), sync: true, maxLength: HELD_BYTES })
  // Without a listener the error is thrown to whoever logs.
  target.on('error', () => undefined)
  const timestamp = () => `,"time":"${new Date().toISOString()}"`
  const log = pino({ level, base: null, timestamp, hooks: { streamWrite: visibleJson } }, target)
  const write = (method: Level) => (message: string, fields?: Readonly<Record<string, unknown>>) => {
    if (fields === undefined) log[method](message)
    else log[method](printable(fields), message)
  }
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
}

function printable(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, typeof value === 'bigint' ? value.toString() : value]))
}

/** Also hands warnings and errors to `onTrouble`, for people who do not read the log. */
export function withTroubleLines(logger: Logger, onTrouble: (line: string) => void): Logger {
  const line = (label: string, message: string, fields: Readonly<Record<string, unknown>> = {}) => {
    const what = fields['table'] ?? fields['path'] ?? fields['uri'] ?? fields['slot']
    const why = fields['reason'] ?? fields['error'] ?? fields['note']
    const values = [what, why, fields['remedy']].filter((value) => value !== undefined && value !== null)
    onTrouble(oneLine([`${label} ${message}`, ...values.map(String)].join(': ')))
  }
  return {
    debug: (message, fields) => logger.debug(message, fields),
    info: (message, fields) => logger.info(message, fields),
    warn: (message, fields) => {
      logger.warn(message, fields)
      line('warning:', message, fields)
    },
    error: (message, fields) => {
      logger.error(message, fields)
      line('error:', message, fields)
    },
  }
}
