import type { Lsn } from '@moonlink/core'
import { uint64At } from '../types/wire.ts'
import { StreamMessage } from './stream-messages.ts'

/** Kinds of payloads that a replication stream brings (Postgres docs, "Streaming Replication Protocol"). */
export const WAL = 0x77 // w
export const KEEPALIVE = 0x6b // k
/** Before the message in a payload of kind `WAL`. */
export const WAL_HEADER_BYTES = 25

/** Types of the messages of proto_version 1 (Postgres docs, "Logical Replication Message Formats"). */
export const Message = {
  begin: 0x42, // B
  commit: 0x43, // C
  origin: 0x4f, // O
  relation: 0x52, // R
  type: 0x59, // Y
  insert: 0x49, // I
  update: 0x55, // U
  delete: 0x44, // D
  truncate: 0x54, // T
  logical: 0x4d, // M
} as const

export const BEGIN_BYTES = WAL_HEADER_BYTES + 21
export const COMMIT_BYTES = WAL_HEADER_BYTES + 26

/** A Begin as the server would have sent it, less the time. */
export function beginPayload(commitLsn: Lsn, xid: number): Buffer {
  const payload = Buffer.alloc(BEGIN_BYTES)
  payload[0] = WAL
  payload[WAL_HEADER_BYTES] = Message.begin
  payload.writeBigUInt64BE(commitLsn, WAL_HEADER_BYTES + 1)
  payload.writeUInt32BE(xid, WAL_HEADER_BYTES + 17)
  return payload
}

/** A Commit of what follows its flags: LSN, end LSN and time. */
export function commitPayload(point: Uint8Array): Buffer {
  const payload = Buffer.alloc(COMMIT_BYTES)
  payload[0] = WAL
  payload[WAL_HEADER_BYTES] = Message.commit
  payload.set(point, WAL_HEADER_BYTES + 2)
  return payload
}

/** Where the transaction ends that a payload commits; null of any other payload. */
export function committedBy(payload: Uint8Array): Lsn | null {
  const isCommit = payload.length === COMMIT_BYTES && payload[0] === WAL && payload[WAL_HEADER_BYTES] === Message.commit
  return isCommit ? uint64At(payload, WAL_HEADER_BYTES + 10) : null
}

/** Whether a payload prepares a transaction. */
export function isPrepare(payload: Uint8Array): boolean {
  const type = payload[WAL_HEADER_BYTES]
  return payload[0] === WAL && (type === StreamMessage.prepare || type === StreamMessage.streamPrepare)
}
