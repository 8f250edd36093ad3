import { MoonlinkError } from './errors.ts'

/** A position in the Postgres write-ahead log: an unsigned 64-bit byte offset. */
export type Lsn = bigint

/** Reads `X/Y` (two hexadecimal halves), as Postgres prints it. Throws `invalid` for anything else. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text.trim())
  if (!match) {
    throw new MoonlinkError('invalid', 'LSN_MALFORMED', `not an LSN: "${text}". Write it as Postgres does, for example 0/16B3748.`, {
      context: { text },
    })
  }
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)
}

/** Prints an LSN the way Postgres does: `16/B374D848`. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`
}

/** The later of two places. */
export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b
}

/** The earlier of two places. */
export function minLsn(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b
}
