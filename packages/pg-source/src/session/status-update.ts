import type { Lsn } from '@moonlink/core'

const EPOCH_2000_MS = 946_684_800_000

/**
 * Standby status update: how far we have received (`written`) and what the server may forget (`acknowledged`, for both flushed and applied).
 * Zero means that nothing is said about it.
 */
export function statusUpdate(written: Lsn, acknowledged: Lsn, nowMs: number, wantsReply: boolean): Uint8Array {
  const message = new DataView(new ArrayBuffer(34))
  message.setUint8(0, 0x72) // r
  message.setBigUint64(1, written)
  message.setBigUint64(9, acknowledged)
  message.setBigUint64(17, acknowledged)
  message.setBigInt64(25, BigInt(Math.trunc(nowMs) - EPOCH_2000_MS) * 1000n)
  message.setUint8(33, wantsReply ? 1 : 0)
  return new Uint8Array(message.buffer)
}
