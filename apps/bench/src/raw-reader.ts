import { Socket } from 'node:net'
import pg from 'pg'

/**
 * How a raw reader takes bytes: `eager` reads whatever is there at once, as most clients do; `paced` looks every millisecond, which lets the
 * server send many messages with few packets and costs both sides less.
 */
export type Pace = 'eager' | 'paced'

const BUFFER_BYTES = 256 * 1024
const PACE_MS = 1

/**
 * A logged-in Postgres connection whose socket is read into one buffer that is used again and again, messages told apart by their length alone:
 * the least that a client can do.
 */
export class RawReader {
  private readonly client: pg.Client
  private readonly socket: Socket
  private readonly pace: Pace
  private onMessage: ((type: number, bytes: Buffer, at: number) => void) | null = null
  private fail: (error: Error) => void = () => {}
  private carry = Buffer.alloc(0)

  private constructor(client: pg.Client, socket: Socket, pace: Pace) {
    this.client = client
    this.socket = socket
    this.pace = pace
  }

  static async connect(connectionString: string, pace: Pace, replication: boolean): Promise<RawReader> {
    let reader: RawReader | null = null
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)
    const socket: Socket = new Socket({
      onread: {
        buffer,
        callback: (size, bytes) => {
          if (reader) reader.receive(Buffer.from(bytes.buffer, bytes.byteOffset, size))
          else socket.emit('data', Buffer.from(bytes.subarray(0, size)))
          return true
        },
      },
    })
    const client = new pg.Client({
      connectionString,
      stream: () => socket,
      ...(replication ? { replication: 'database' } : {}),
    })
    await client.connect()
    reader = new RawReader(client, socket, pace)
    socket.on('error', (error) => reader.fail(error))
    return reader
  }

  /** Sends a simple query and gives every message that comes back to `onMessage`, `at` pointing behind its header, until that returns true. */
  async run(sql: string, onMessage: (type: number, bytes: Buffer, at: number) => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.fail = reject
      this.onMessage = (type, bytes, at) => {
        if (type === 0x45) reject(new Error(`Postgres refused "${sql}": ${bytes.toString('latin1', at, at + 200)}`))
        else if (onMessage(type, bytes, at)) resolve()
      }
      const text = Buffer.from(`${sql}\0`)
      const message = Buffer.alloc(5 + text.length)
      message[0] = 0x51
      message.writeInt32BE(text.length + 4, 1)
      message.set(text, 5)
      this.socket.write(message)
    })
  }

  /** Hangs up: the protocol's state is unknown to `pg`. */
  close(): void {
    this.onMessage = null
    this.client.removeAllListeners('error')
    this.client.on('error', () => {})
    this.socket.destroy()
  }

  private receive(chunk: Buffer): void {
    this.frame(chunk)
    if (this.pace === 'eager' || chunk.length === BUFFER_BYTES) return
    this.socket.pause()
    setTimeout(() => this.socket.resume(), PACE_MS)
  }

  private frame(chunk: Buffer): void {
    const bytes = this.carry.length > 0 ? Buffer.concat([this.carry, chunk]) : chunk
    let at = 0
    while (at + 5 <= bytes.length) {
      const size = 1 + bytes.readInt32BE(at + 1)
      if (at + size > bytes.length) break
      this.onMessage?.(bytes[at], bytes, at + 5)
      at += size
    }
    this.carry = at < bytes.length ? Buffer.from(bytes.subarray(at)) : Buffer.alloc(0)
  }
}
