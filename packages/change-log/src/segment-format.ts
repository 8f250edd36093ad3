import { crc32 } from 'node:zlib'
import { formatLsn, MoonlinkError, parseLsn, type Lsn } from '@moonlink/core'
import { z } from 'zod'

const MAGIC = 'moonlog\n'
/** Raised whenever older readers would misread a segment. */
export const SEGMENT_VERSION = 1
const FIXED = 24

const headerSchema = z.object({
  log: z.string(),
  sequence: z.number().int().positive(),
  startLsn: z.string(),
  isCut: z.boolean(),
  isSession: z.boolean(),
  continues: z.object({ sequence: z.number().int().positive(), offset: z.number().int().positive() }).nullable(),
})

/** What a segment says of itself. */
export interface SegmentHeader {
  /** Names the source and slot: a log of others is not read. */
  readonly log: string
  /** Grows from segment to segment, not always by one. */
  readonly sequence: number
  /** The segments before have every transaction that ends here or before. */
  readonly startLsn: Lsn
  /** No transaction is open at its start, so a reader may begin here, with `state`. */
  readonly isCut: boolean
  /** A session with the source begins here. */
  readonly isSession: boolean
  /** The segment before, and how much of it counts: what lies behind was not continued. Null where the log began anew. */
  readonly continues: { readonly sequence: number; readonly offset: number } | null
  readonly state: Uint8Array
}

/** What the next segment starts with; its predecessor is known when it is made. */
export type NextSegment = Pick<SegmentHeader, 'startLsn' | 'isCut' | 'isSession' | 'state'>

export interface ParsedHeader extends SegmentHeader {
  /** Where the records start. */
  readonly length: number
}

/** Sequence numbers of one holder of the lease; a later one's are all greater. */
const SEQUENCES_PER_EPOCH = 1_000_000_000

/** The sequence number before the first that a holder of that epoch may use. */
export function sequenceBefore(epoch: number): number {
  return epoch * SEQUENCES_PER_EPOCH
}

export function epochOf(sequence: number): number {
  return Math.floor(sequence / SEQUENCES_PER_EPOCH)
}

/** Nine digits of its number within the epoch; before them the epoch, if there is one. */
export function segmentName(sequence: number): string {
  return `${sequence.toString().padStart(12, '0')}.segment`
}

/** The sequence number in a segment's name, or null for another file. */
export function segmentSequence(name: string): number | null {
  const match = /^(\d{12,16})\.segment$/.exec(name)
  return match === null ? null : Number(match[1])
}

export function encodeHeader(header: SegmentHeader): Buffer {
  const { state, startLsn, ...rest } = header
  const json = Buffer.from(JSON.stringify({ ...rest, startLsn: formatLsn(startLsn) }))
  const bytes = Buffer.alloc(FIXED + json.length + state.length)
  bytes.write(MAGIC, 'latin1')
  bytes.writeUInt32LE(SEGMENT_VERSION, 8)
  bytes.writeUInt32LE(json.length, 12)
  bytes.writeUInt32LE(state.length, 16)
  bytes.set(json, FIXED)
  bytes.set(state, FIXED + json.length)
  bytes.writeUInt32LE(checksum(bytes, bytes.length), 20)
  return bytes
}

/** Reads a segment's header; null where the bytes are none. Throws `invalid`/`LOG_VERSION` for a segment of a later version. */
export function parseHeader(segment: Buffer, name: string): ParsedHeader | null {
  if (segment.length < FIXED || segment.toString('latin1', 0, 8) !== MAGIC) return null
  const version = segment.readUInt32LE(8)
  const jsonLength = segment.readUInt32LE(12)
  const stateLength = segment.readUInt32LE(16)
  const length = FIXED + jsonLength + stateLength
  const isWhole = length <= segment.length && segment.readUInt32LE(20) === checksum(segment, length)
  // No later version writes the checksum of this one: the number itself is damaged then.
  if (version > SEGMENT_VERSION && version < 0xffff && !isWhole) {
    const message = `${name} has version ${version} of the log's format, and this Moonlink reads up to ${SEGMENT_VERSION}; start the later Moonlink that wrote it, or flush with that one and remove the log.`
    throw new MoonlinkError('invalid', 'LOG_VERSION', message, { context: { file: name, version } })
  }
  if (version !== SEGMENT_VERSION || !isWhole) return null
  try {
    const { startLsn, ...rest } = headerSchema.parse(JSON.parse(segment.toString('utf8', FIXED, FIXED + jsonLength)))
    return { ...rest, startLsn: parseLsn(startLsn), state: segment.subarray(FIXED + jsonLength, length), length }
  } catch {
    return null
  }
}

/** Of a header of this version, whatever number it has. */
function checksum(bytes: Buffer, length: number): number {
  const fixed = Buffer.from(bytes.subarray(0, 20))
  fixed.writeUInt32LE(SEGMENT_VERSION, 8)
  return crc32(bytes.subarray(FIXED, length), crc32(fixed))
}
