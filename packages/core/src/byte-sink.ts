/** Bytes that grow. `bytes` and `view` change with every `reserve` or append; what lies from `length` on is unspecified. */
export class ByteSink {
  bytes: Uint8Array<ArrayBuffer>
  view: DataView
  length = 0

  constructor(capacity = 1024) {
    this.bytes = new Uint8Array(capacity)
    this.view = new DataView(this.bytes.buffer)
  }

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    const needed = this.length + count
    if (needed <= this.bytes.length) return
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2))
    grown.set(this.bytes.subarray(0, this.length))
    this.bytes = grown
    this.view = new DataView(grown.buffer)
  }

  append(source: Uint8Array): void {
    this.reserve(source.length)
    this.bytes.set(source, this.length)
    this.length += source.length
  }

  appendByte(value: number): void {
    this.reserve(1)
    this.bytes[this.length++] = value
  }

  appendUint32(value: number): void {
    this.reserve(4)
    this.view.setUint32(this.length, value, true)
    this.length += 4
  }

  /** An unsigned integer in groups of seven bits, least significant first (ULEB128). */
  appendVarint(value: number): void {
    while (value >= 0x80) {
      this.appendByte((value & 0x7f) | 0x80)
      value >>>= 7
    }
    this.appendByte(value)
  }

  /** What was appended; shares memory. */
  written(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length)
  }
}
