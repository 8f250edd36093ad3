import { crc32 } from 'node:zlib'
import type { Lsn } from '@moonlink/core'

/** Bytes before the payload of a record: magic, payload length, CRC, end LSN, synced length. Little-endian. */
export const RECORD_HEADER = 24
const MAGIC = 0x4d4c5231
const NO_CRC = Buffer.alloc(4)

export interface LogRecord {
  /** Where the record starts and where the next one does. */
  readonly offset: number
  readonly next: number
  readonly payload: Uint8Array
  /** With this record, the log has every transaction that ends here or before; null where it ends within one. */
  readonly endLsn: Lsn | null
  /** The file was known to be safe up to this offset when the record was written. */
  readonly syncedLength: number
}

/** Begins a record at `offset`: its payload follows. `sealRecord` completes it. */
export function writeRecordHeader(target: Buffer, offset: number, payloadLength: number, endLsn: Lsn | null): void {
  target.writeUInt32LE(MAGIC, offset)
  target.writeUInt32LE(payloadLength, offset + 4)
  target.writeBigUInt64LE(endLsn ?? 0n, offset + 12)
}

/** Fills in what is known only when the record goes out. Returns where the next record starts. */
export function sealRecord(target: Buffer, offset: number, syncedLength: number): number {
  target.writeUInt32LE(syncedLength, offset + 20)
  const next = offset + RECORD_HEADER + target.readUInt32LE(offset + 4)
  target.writeUInt32LE(checksum(target, offset, next), offset + 8)
  return next
}

/** Reads the record at `offset` of a segment; null where the bytes are none: cut off, or not what was written. */
export function readRecord(segment: Buffer, offset: number): LogRecord | null {
  if (segment.length - offset <= RECORD_HEADER || segment.readUInt32LE(offset) !== MAGIC) return null
  const length = segment.readUInt32LE(offset + 4)
  const next = offset + RECORD_HEADER + length
  if (length === 0 || next > segment.length || segment.readUInt32LE(offset + 8) !== checksum(segment, offset, next)) return null
  const endLsn = segment.readBigUInt64LE(offset + 12)
  return {
    offset,
    next,
    payload: segment.subarray(offset + RECORD_HEADER, next),
    endLsn: endLsn === 0n ? null : endLsn,
    syncedLength: segment.readUInt32LE(offset + 20),
  }
}

/**
 * Whether what can't be read at `offset` had been safe: a later record says that the file was synced beyond it. Otherwise it is the tail of
 * what was being written when the machine stopped, of which later parts may have reached the disk before earlier ones.
 */
export function wasSynced(segment: Buffer, offset: number): boolean {
  const magic = Buffer.alloc(4)
  magic.writeUInt32LE(MAGIC)
  for (let at = segment.indexOf(magic, offset + 1); at >= 0; at = segment.indexOf(magic, at + 1)) {
    const record = readRecord(segment, at)
    if (record !== null && record.syncedLength > offset) return true
  }
  return false
}

function checksum(bytes: Buffer, offset: number, next: number): number {
  const start = crc32(bytes.subarray(offset, offset + 8))
  return crc32(bytes.subarray(offset + 12, next), crc32(NO_CRC, start))
}
