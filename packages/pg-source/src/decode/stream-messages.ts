import type { Lsn } from '@moonlink/core'
import { malformedMessage, MessageReader } from './message-reader.ts'

/** Types of the messages of proto_version 2 to 4 that are about transactions in progress, and about prepared ones. */
export const StreamMessage = {
  start: 0x53, // S
  stop: 0x45, // E
  commit: 0x63, // c
  abort: 0x41, // A
  beginPrepare: 0x62, // b
  prepare: 0x50, // P
  commitPrepared: 0x4b, // K
  rollbackPrepared: 0x72, // r
  streamPrepare: 0x70, // p
} as const

/** Where a transaction commits, as the bytes of a Commit message have it after its flags: LSN, end LSN, time. */
export interface CommitPoint {
  readonly xid: number
  readonly commitLsn: Lsn
  readonly endLsn: Lsn
  /** 24 bytes; a copy. */
  readonly bytes: Uint8Array
}

export interface PreparePoint {
  readonly xid: number
  readonly gid: string
  readonly prepareLsn: Lsn
}

export function readStreamStart(source: Uint8Array, at: number): { readonly xid: number; readonly isFirst: boolean } {
  const reader = new MessageReader(source, at)
  const xid = reader.oid()
  const first = reader.byte()
  reader.finish('a Stream Start')
  if (xid === 0 || first > 1) malformedMessage(`a Stream Start of transaction ${xid}, segment ${first}`)
  return { xid, isFirst: first === 1 }
}

export function readStreamCommit(source: Uint8Array, at: number): CommitPoint {
  const reader = new MessageReader(source, at)
  const xid = reader.oid()
  reader.byte()
  return { xid, ...commitPoint(reader, source, at + 5, 'a Stream Commit') }
}

/** With `streaming 'parallel'`, where and when the abort was follows. */
export function readStreamAbort(source: Uint8Array, at: number): { readonly xid: number; readonly subxid: number } {
  const reader = new MessageReader(source, at)
  const xid = reader.oid()
  const subxid = reader.oid()
  if (reader.remaining !== 0 && reader.remaining !== 16) malformedMessage('a Stream Abort of the wrong length')
  return { xid, subxid }
}

export function readBeginPrepare(source: Uint8Array, at: number): PreparePoint {
  return preparePoint(new MessageReader(source, at), 'a Begin Prepare')
}

/** Prepare and Stream Prepare. */
export function readPrepare(source: Uint8Array, at: number): PreparePoint {
  const reader = new MessageReader(source, at)
  reader.byte()
  return preparePoint(reader, 'a Prepare')
}

export function readCommitPrepared(source: Uint8Array, at: number): CommitPoint & { readonly gid: string } {
  const reader = new MessageReader(source, at)
  reader.byte()
  const commitLsn = reader.lsn()
  const endLsn = reader.lsn()
  reader.timestampMs()
  const xid = reader.oid()
  const gid = reader.text()
  reader.finish('a Commit Prepared')
  return { xid, gid, commitLsn, endLsn, bytes: Buffer.from(source.subarray(at + 1, at + 25)) }
}

export function readRollbackPrepared(source: Uint8Array, at: number): { readonly xid: number; readonly gid: string } {
  const reader = new MessageReader(source, at)
  reader.byte()
  reader.lsn()
  reader.lsn()
  reader.timestampMs()
  reader.timestampMs()
  const xid = reader.oid()
  const gid = reader.text()
  reader.finish('a Rollback Prepared')
  return { xid, gid }
}

function commitPoint(reader: MessageReader, source: Uint8Array, at: number, what: string) {
  const commitLsn = reader.lsn()
  const endLsn = reader.lsn()
  reader.timestampMs()
  reader.finish(what)
  return { commitLsn, endLsn, bytes: Buffer.from(source.subarray(at, at + 24)) }
}

function preparePoint(reader: MessageReader, what: string): PreparePoint {
  const prepareLsn = reader.lsn()
  reader.lsn()
  reader.timestampMs()
  const xid = reader.oid()
  const gid = reader.text()
  reader.finish(what)
  return { xid, gid, prepareLsn }
}
