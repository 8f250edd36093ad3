import { malformedMessage, MessageReader } from './message-reader.ts'

/** Flags and LSN. */
const FIXED_BYTES = 9

/** What `pg_logical_emit_message` wrote. */
export interface LogicalMessage {
  readonly isTransactional: boolean
  readonly prefix: string
  readonly content: Uint8Array
}

/** Behind the message's type, and the transaction where that is named. The content is a view. */
export function readLogicalMessage(source: Uint8Array, at: number): LogicalMessage {
  const reader = new MessageReader(source, at)
  const flags = reader.byte()
  reader.lsn()
  const prefix = reader.text()
  const size = reader.int32()
  if (size < 0 || size !== reader.remaining) malformedMessage(`a logical message of ${size} bytes`)
  return { isTransactional: (flags & 1) === 1, prefix, content: source.subarray(source.length - size) }
}

/** A transactional message as the server would have sent it, behind its type; `readLogicalMessage` reads it. */
export function encodeLogicalMessage(prefix: string, content: Uint8Array): Buffer {
  const name = Buffer.from(`${prefix}\0`)
  const message = Buffer.alloc(FIXED_BYTES + name.length + 4 + content.length)
  message[0] = 1
  message.set(name, FIXED_BYTES)
  const end = message.writeInt32BE(content.length, FIXED_BYTES + name.length)
  message.set(content, end)
  return message
}
