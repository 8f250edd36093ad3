import { JsonNumber } from './json-number.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
/** A number of jsonb, which has no exponent, that takes no more bytes has at most 38 digits, and fits. */
const SAFE_BYTES = 38

const number = new JsonNumber()

/** Whether Postgres' text of a jsonb value, `source[start … end)`, is exact as a variant: whether each number in it is. */
export function jsonbFitsVariant(source: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = source[at]
    if (byte === QUOTE) {
      for (at++; at < end && source[at] !== QUOTE; at++) if (source[at] === BACKSLASH) at++
    } else if (byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) {
      let next = at + 1
      while (next < end && ((source[next] >= 0x30 && source[next] <= 0x39) || source[next] === 0x2e)) next++
      if (next - at > SAFE_BYTES) {
        number.read(source, at, end)
        if (!number.fits) return false
      }
      at = next - 1
    }
  }
  return true
}
