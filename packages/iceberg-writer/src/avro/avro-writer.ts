const encoder = new TextEncoder()

/** A number, or a bigint where a number would lose digits. How Avro's `long` travels here. */
export type Long = number | bigint

/** Appends Avro's binary encoding (Avro 1.12 specification, "Binary Encoding") to a growing buffer. */
export class AvroWriter {
  private bytes: Uint8Array
  private view: DataView
  private at = 0

  constructor(capacityBytes = 4096) {
    this.bytes = new Uint8Array(capacityBytes)
    this.view = new DataView(this.bytes.buffer)
  }

  /** Bytes written so far. */
  get length(): number {
    return this.at
  }

  /** `int` and `long`: zig-zag, then seven bits a byte, least significant first. */
  long(value: Long): void {
    this.reserve(10)
    if (typeof value === 'number' && value >= -0x4000_0000 && value < 0x4000_0000) this.varint32((value << 1) ^ (value >> 31))
    else this.varint64(BigInt(value))
  }

  bytesValue(value: Uint8Array): void {
    this.long(value.length)
    this.raw(value)
  }

  string(value: string): void {
    this.bytesValue(encoder.encode(value))
  }

  /** The branch index of a `["null", T]` union; the caller writes T where it returns true. */
  optional<T>(value: T | null): value is T {
    this.long(value === null ? 0 : 1)
    return value !== null
  }

  optionalLong(value: Long | null): void {
    if (this.optional(value)) this.long(value)
  }

  raw(value: Uint8Array): void {
    this.reserve(value.length)
    this.bytes.set(value, this.at)
    this.at += value.length
  }

  /** A copy of what was written. */
  take(): Uint8Array {
    return this.bytes.slice(0, this.at)
  }

  clear(): void {
    this.at = 0
  }

  private varint32(zigzag: number): void {
    let rest = zigzag >>> 0
    while (rest > 0x7f) {
      this.view.setUint8(this.at++, (rest & 0x7f) | 0x80)
      rest >>>= 7
    }
    this.view.setUint8(this.at++, rest)
  }

  private varint64(value: bigint): void {
    let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n))
    while (rest > 0x7fn) {
      this.view.setUint8(this.at++, Number(rest & 0x7fn) | 0x80)
      rest >>= 7n
    }
    this.view.setUint8(this.at++, Number(rest))
  }

  private reserve(count: number): void {
    if (this.at + count <= this.bytes.length) return
    let size = this.bytes.length
    while (size < this.at + count) size *= 2
    const bytes = new Uint8Array(size)
    bytes.set(this.bytes.subarray(0, this.at))
    this.bytes = bytes
    this.view = new DataView(bytes.buffer)
  }
}
