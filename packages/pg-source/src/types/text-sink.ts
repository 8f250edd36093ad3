/**
 * Growing bytes that text is rendered into. One serves a thread: rendering is synchronous, and whoever renders takes what it wrote
 * before anybody else renders.
 */
export class TextSink {
  bytes = new Uint8Array(256)
  length = 0

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    if (this.length + count <= this.bytes.length) return
    const bytes = new Uint8Array(Math.max(this.length + count, this.bytes.length * 2))
    bytes.set(this.bytes.subarray(0, this.length))
    this.bytes = bytes
  }

  byte(value: number): void {
    if (this.length === this.bytes.length) this.reserve(1)
    this.bytes[this.length++] = value
  }

  /** Appends text of characters below 128. */
  ascii(text: string): void {
    this.reserve(text.length)
    for (let index = 0; index < text.length; index++) this.bytes[this.length++] = text.charCodeAt(index)
  }

  copy(source: Uint8Array, start: number, end: number): void {
    this.reserve(end - start)
    if (end - start > 48) {
      this.bytes.set(source.subarray(start, end), this.length)
      this.length += end - start
    } else for (let index = start; index < end; index++) this.bytes[this.length++] = source[index]
  }

  /** Appends an integer below 2^53 in decimal, with zeros in front up to `width` digits. */
  integer(value: number, width = 1): void {
    if (value < 0) this.byte(0x2d)
    let rest = Math.abs(value)
    let digits = 1
    for (let bound = 10; bound <= rest; bound *= 10) digits++
    digits = Math.max(digits, width)
    this.reserve(digits)
    const start = this.length
    this.length += digits
    for (let at = this.length - 1; at >= start; at--) {
      this.bytes[at] = 0x30 + (rest % 10)
      rest = Math.floor(rest / 10)
    }
  }

  /** Appends a byte as two hexadecimal digits, in lower case. */
  hex(value: number): void {
    this.byte(HEX[value >> 4])
    this.byte(HEX[value & 15])
  }

  /** Empties it. */
  clear(): void {
    this.length = 0
    // One huge value shall not hold its memory for ever.
    if (this.bytes.length > MAX_KEPT_BYTES) this.bytes = new Uint8Array(256)
  }
}

const HEX = new TextEncoder().encode('0123456789abcdef')
const MAX_KEPT_BYTES = 1 << 20
