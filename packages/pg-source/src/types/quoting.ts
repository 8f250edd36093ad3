import type { TextSink } from './text-sink.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** What makes a part of a nested value need quotes, and how a quote within is written. */
export interface Quoting {
  /** By byte: 1 where it forces quotes. Quotes and backslashes do as well, and are escaped. */
  readonly special: Uint8Array
  /** What stands before a quote or backslash: a backslash in arrays; in records and ranges the same character again. */
  readonly escape: 'backslash' | 'doubled'
  /** Where an unquoted NULL would be read as one. */
  readonly quotesNull: boolean
}

const SPACES = ' \t\n\v\f\r'

export function quoting(special: string, escape: Quoting['escape'], quotesNull = false): Quoting {
  const table = new Uint8Array(256)
  for (const char of SPACES + special) table[char.charCodeAt(0)] = 1
  return { special: table, escape, quotesNull }
}

export const recordQuoting = quoting('(),', 'doubled')
export const rangeQuoting = quoting('()[],', 'doubled')
export const arrayQuoting = (delimiter: string): Quoting => quoting(`{}${delimiter}`, 'backslash', true)

/** Puts what was rendered from `start` on into quotes where it needs them. The empty text does. */
export function quoteFrom(sink: TextSink, start: number, rules: Quoting): void {
  let escapes = 0
  let isQuoted = sink.length === start || (rules.quotesNull && isNull(sink, start))
  for (let at = start; at < sink.length; at++) {
    const byte = sink.bytes[at]
    if (byte === QUOTE || byte === BACKSLASH) escapes++
    else if (rules.special[byte] === 1) isQuoted = true
  }
  if (!isQuoted && escapes === 0) return
  sink.reserve(escapes + 2)
  const { bytes } = sink
  const last = sink.length - 1
  sink.length += escapes + 2
  let to = sink.length - 1
  bytes[to--] = QUOTE
  for (let at = last; at >= start; at--) {
    const byte = bytes[at]
    bytes[to--] = byte
    if (byte === QUOTE || byte === BACKSLASH) bytes[to--] = rules.escape === 'backslash' ? BACKSLASH : byte
  }
  bytes[to] = QUOTE
}

/** `NULL` in any case. */
function isNull({ bytes, length }: TextSink, start: number): boolean {
  if (length - start !== 4) return false
  const letter = (index: number) => bytes[start + index] | 0x20
  return letter(0) === 0x6e && letter(1) === 0x75 && letter(2) === 0x6c && letter(3) === 0x6c
}
