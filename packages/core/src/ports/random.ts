import { randomBytes } from 'node:crypto'

/** Randomness as a port, so that a simulation can replay it from a seed. */
export interface Random {
  /** `count` random bytes. */
  bytes(count: number): Uint8Array
}

/** The cryptographic randomness of this machine. */
export const systemRandom: Random = { bytes: (count) => randomBytes(count) }

/** A random version 4 UUID in its usual text form. */
export function randomUuid(random: Random): string {
  const bytes = random.bytes(16)
  bytes[6] = (bytes[6] & 0x0f) | 0x40
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
