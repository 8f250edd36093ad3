import type { Lsn } from '@moonlink/core'
import { uint64At } from '../types/wire.ts'
import { malformedMessage } from './message-reader.ts'

const KEEPALIVE_BYTES = 18

/** A keepalive of the server. */
export interface Keepalive {
  /** The server has sent everything before this position. */
  readonly walEnd: Lsn
  /** The server wants a status message now. */
  readonly replyRequested: boolean
}

/** Reads a primary keepalive message (Postgres docs, "Streaming Replication Protocol"). Throws `corrupt`/`PGOUTPUT_MALFORMED` for another length. */
export function readKeepalive(payload: Uint8Array): Keepalive {
  if (payload.length !== KEEPALIVE_BYTES) malformedMessage(`a keepalive of ${payload.length} bytes`)
  return { walEnd: uint64At(payload, 1), replyRequested: payload[KEEPALIVE_BYTES - 1] === 1 }
}
