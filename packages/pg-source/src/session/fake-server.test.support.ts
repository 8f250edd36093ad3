import { Duplex } from 'node:stream'
import type { ChangeLog, Clock } from '@moonlink/core'
import type pg from 'pg'
import type { StreamDecoder } from '../decode/index.ts'
import { RawConnection } from './raw-connection.ts'
import { ReplicationStream } from './replication-stream.ts'

/** A status update, as a server reads it. */
export interface Status {
  readonly written: bigint
  readonly flushed: bigint
  readonly wantsReply: boolean
}

export interface FakeServer {
  readonly stream: ReplicationStream
  readonly statuses: readonly Status[]
  /** Sends payloads, each as one CopyData message. */
  readonly send: (...payloads: readonly Buffer[]) => void
}

export interface FakeServerOptions {
  readonly decoder: StreamDecoder
  readonly clock: Clock
  readonly log?: ChangeLog
  readonly statusIntervalMs?: number
  readonly onStatus?: (status: Status) => void
}

/** A stream that is open, from a server whose side the test plays. */
export async function startStream({ statusIntervalMs = 1000, onStatus, ...options }: FakeServerOptions): Promise<FakeServer> {
  const statuses: Status[] = []
  const socket = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _encoding, done: () => void) => {
      if (chunk[0] === 0x64) {
        const status = { written: chunk.readBigInt64BE(6), flushed: chunk.readBigInt64BE(14), wantsReply: chunk[38] === 1 }
        statuses.push(status)
        onStatus?.(status)
      }
      done()
    },
  })
  const end = async () => void socket.destroy()
  const connection = new RawConnection({ connection: { stream: socket }, end } as unknown as pg.Client)
  const settings = { slot: 's', command: 'START', answer: () => Promise.resolve([]), bufferBytes: 1000, keepaliveMs: 5000 }
  const starting = ReplicationStream.start(connection, { ...settings, ...options, statusIntervalMs }, new AbortController().signal)
  socket.emit('data', Buffer.from([0x57, 0, 0, 0, 7, 0, 0, 0]))
  const send = (...payloads: readonly Buffer[]) => void socket.emit('data', Buffer.concat(payloads.map(copyData)))
  return { stream: await starting, statuses, send }
}

export function copyData(payload: Buffer): Buffer {
  const message = Buffer.alloc(5 + payload.length)
  message[0] = 0x64
  message.writeInt32BE(payload.length + 4, 1)
  message.set(payload, 5)
  return message
}
