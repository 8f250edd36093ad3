import { MoonlinkError } from '@moonlink/core'

/** Reads the frame of a 32-bit Roaring bitmap in the portable format (RoaringFormatSpec), without decoding its values. */

const COOKIE_NO_RUNS = 12346
const COOKIE_RUNS = 12347
/** With run containers, offsets are written only from this many containers on. */
const RUNS_OFFSETS_FROM = 4
const ARRAY_MAX = 4096
const BITSET_BYTES = 8192

/** The portable encoding of no positions at all. */
export const EMPTY_ROARING: Uint8Array = new Uint8Array([0x3a, 0x30, 0, 0, 0, 0, 0, 0])

export interface RoaringFrame {
  readonly cardinality: number
  /** Length of the encoding; what follows belongs to something else. */
  readonly sizeBytes: number
}

/** Walks the container headers. Throws `corrupt`/`ROARING_MALFORMED` where they contradict the bytes there are. */
export function readRoaringFrame(bytes: Uint8Array): RoaringFrame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const need = (end: number) => {
    if (end > bytes.length) throw malformed('bytes end early')
  }
  need(4)
  const cookie = view.getUint32(0, true)
  const hasRuns = (cookie & 0xffff) === COOKIE_RUNS
  if (!hasRuns && cookie !== COOKIE_NO_RUNS) throw malformed(`unknown cookie ${cookie}`)
  if (!hasRuns) need(8)
  const count = hasRuns ? (cookie >>> 16) + 1 : view.getUint32(4, true)
  if (count > 65_536) throw malformed(`${count} containers`)
  const runFlags = 4
  const descriptors = hasRuns ? 4 + ((count + 7) >> 3) : 8
  let at = descriptors + count * 4 + (!hasRuns || count >= RUNS_OFFSETS_FROM ? count * 4 : 0)
  need(at)
  let cardinality = 0
  let previousKey = -1
  for (let index = 0; index < count; index++) {
    const key = view.getUint16(descriptors + index * 4, true)
    if (key <= previousKey) throw malformed('container keys do not ascend')
    previousKey = key
    const size = view.getUint16(descriptors + index * 4 + 2, true) + 1
    cardinality += size
    const isRun = hasRuns && ((bytes[runFlags + (index >> 3)] >> (index & 7)) & 1) === 1
    if (isRun) need(at + 2)
    at += isRun ? 2 + view.getUint16(at, true) * 4 : size > ARRAY_MAX ? BITSET_BYTES : size * 2
    need(at)
  }
  return { cardinality, sizeBytes: at }
}

function malformed(what: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'ROARING_MALFORMED', `malformed Roaring bitmap: ${what}`)
}
