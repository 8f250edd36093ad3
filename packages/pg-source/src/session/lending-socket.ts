import { Socket } from 'node:net'

/** What one read of it brings at most. */
export const LENT_READ_BYTES = 256 * 1024

/**
 * A socket that reads into one buffer again and again. A socket of Node's own makes a buffer for each read; for a stream of gigabytes these are what
 * the garbage collector mostly works for.
 *
 * Until `lend`, each `data` event has memory of its own, as everywhere; from then on the event's bytes are valid only until its handlers return.
 * Not for TLS, which reads from the handle below.
 */
export class LendingSocket extends Socket {
  private isLending = false

  constructor() {
    const buffer = Buffer.allocUnsafeSlow(LENT_READ_BYTES)
    super({ onread: { buffer, callback: (size) => this.hand(buffer.subarray(0, size)) } })
  }

  lend(): void {
    this.isLending = true
  }

  private hand(bytes: Buffer): boolean {
    this.emit('data', this.isLending ? bytes : Buffer.from(bytes))
    // A handler that paused the socket has stopped it already.
    return true
  }
}
