import { isMoonlinkError } from '@moonlink/core'
import * as fc from 'fast-check'

/** What happens to bytes between being written and being read. Positions count modulo the length. */
type Damage =
  | { readonly kind: 'flip'; readonly at: number; readonly bit: number }
  | { readonly kind: 'set'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'remove'; readonly at: number; readonly count: number }
  | { readonly kind: 'repeat'; readonly at: number; readonly count: number }
  | { readonly kind: 'splice'; readonly at: number; readonly from: number; readonly count: number }
  | { readonly kind: 'cut'; readonly at: number }

const at = fc.nat()
/** Lengths and counts that ask for a lot, as varints and as fixed integers of either end. */
const large = fc
  .constantFrom(
    'ffffff7f',
    '7fffffff',
    'ffffffff',
    '00000080',
    'ffffffffffffff7f',
    'feffffffffffffff01',
    'ffffffffffffffff7f',
    'feffffff0f',
  )
  .map((hex) => Uint8Array.from(Buffer.from(hex, 'hex')))
/** What texts of numbers, keys and brackets no reader should trip over. */
const odd = fc
  .constantFrom(
    'NaN',
    '-0',
    '1e999',
    '-1',
    '9'.repeat(30),
    '"__proto__":{},',
    '"constructor":1,',
    '\\u0000',
    '[',
    ']',
    '{',
    '}',
    '['.repeat(5000),
  )
  .map((text) => Uint8Array.from(Buffer.from(text)))
const bytes = fc.oneof(large, odd, fc.uint8Array({ minLength: 1, maxLength: 12 }))

const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ kind: fc.constant('flip'), at, bit: fc.nat(7) }),
  fc.record({ kind: fc.constant('set'), at, bytes }),
  fc.record({ kind: fc.constant('insert'), at, bytes }),
  fc.record({ kind: fc.constant('remove'), at, count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('repeat'), at, count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('splice'), at, from: at, count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('cut'), at }),
)

/** A few damages, to be done by `damaged`. */
export const damages: fc.Arbitrary<readonly Damage[]> = fc.array(damage, { minLength: 1, maxLength: 4 })

/** A copy of the bytes, damaged. */
export function damaged(original: Uint8Array, what: readonly Damage[]): Uint8Array {
  let result = Uint8Array.from(original)
  for (const one of what) if (result.length > 0) result = damagedOnce(result, one)
  return result
}

function damagedOnce(source: Uint8Array<ArrayBuffer>, one: Damage): Uint8Array<ArrayBuffer> {
  const place = one.at % source.length
  switch (one.kind) {
    case 'flip':
      source[place] ^= 1 << one.bit
      return source
    case 'set':
      source.set(one.bytes.subarray(0, source.length - place), place)
      return source
    case 'insert':
      return Uint8Array.from([...source.subarray(0, place), ...one.bytes, ...source.subarray(place)])
    case 'remove':
      return Uint8Array.from([...source.subarray(0, place), ...source.subarray(place + one.count)])
    case 'repeat':
      return Uint8Array.from([...source.subarray(0, place + one.count), ...source.subarray(place)])
    case 'splice':
      source.copyWithin(place, one.from % source.length, (one.from % source.length) + one.count)
      return source
    case 'cut':
      return source.slice(0, place)
  }
}

/** Reads something damaged: its value, or null where it was refused by a `MoonlinkError` that says so. Any other error passes through. */
export async function readOrRefuse<T>(read: () => T | Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (isMoonlinkError(error, 'corrupt') || isMoonlinkError(error, 'invalid')) return null
    throw error
  }
}

/**
 * How many cases a fuzzer tries, for `fc.assert`: so many, or, where `MOONLINK_FUZZ_MINUTES` is set, as many as that time holds. A case that takes a minute fails then.
 */
export function fuzzing(numRuns: number): fc.Parameters<unknown> {
  const minutes = Number(process.env['MOONLINK_FUZZ_MINUTES'] ?? 0)
  if (minutes === 0) return { numRuns }
  return { numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: minutes * 60_000, timeout: 60_000 }
}
