import { malformedMessage, MessageReader } from './message-reader.ts'

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
