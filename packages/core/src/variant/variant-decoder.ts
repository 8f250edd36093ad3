import type { ByteSink } from '../byte-sink.ts'
import { MoonlinkError } from '../errors.ts'
import { appendJsonString } from './json-string.ts'
import { grown } from './key-dictionary.ts'
import { malformedVariant } from './variant-error.ts'
import { BasicType, METADATA_VERSION, PrimitiveId } from './variant-format.ts'

/** Above so many keys an object's are sorted by the engine's sort. */
const FEW_KEYS = 24
const TEXT = new TextEncoder()
const NULL = TEXT.encode('null')
const TRUE = TEXT.encode('true')
const FALSE = TEXT.encode('false')
const COMMA = TEXT.encode(', ')
const COLON = TEXT.encode(': ')

/** A container whose elements are being written. Kept and used again. */
interface Frame {
  isObject: boolean
  count: number
  /** Elements written. */
  done: number
  width: number
  /** Where the offsets lie, and the elements behind them. */
  offsetsAt: number
  dataAt: number
  /** Of an object, the first of its places in `order`. */
  firstOrder: number
  idWidth: number
  idsAt: number
}

/**
 * Parquet's Variant encoding to JSON text, exactly as Postgres prints the same value as jsonb: keys by their length, then their bytes. Without recursion.
 * Bytes of any origin are safe: what is malformed throws, and no value is written twice.
 */
export class VariantDecoder {
  private metadata: Uint8Array = new Uint8Array(0)
  private value: Uint8Array = new Uint8Array(0)
  private view = new DataView(this.value.buffer)
  private end = 0
  private keyCount = 0
  private keyWidth = 1
  private keyOffsetsAt = 0
  private keysAt = 0
  private keysEnd = 0

  private readonly frames: Frame[] = []
  private depth = 0
  private order = new Int32Array(64)
  private orderCount = 0

  /**
   * Appends the text of the variant `value[start … end)` whose metadata is `metadata[metadataStart … metadataEnd)`. Throws `corrupt`/`VARIANT_MALFORMED`, and
   * `invalid`/`VARIANT_NOT_JSON` for a value of a type that JSON lacks, such as a date, which another writer must have put there.
   */
  append(
    metadata: Uint8Array,
    metadataStart: number,
    metadataEnd: number,
    value: Uint8Array,
    start: number,
    end: number,
    text: ByteSink,
  ): void {
    this.openMetadata(metadata, metadataStart, metadataEnd)
    if (value !== this.value) this.view = new DataView(value.buffer, value.byteOffset, value.byteLength)
    this.value = value
    this.end = end
    this.depth = 0
    this.orderCount = 0
    // A value takes a byte at least, so more of them than bytes are some of them again.
    let remaining = end - start
    let at = start
    for (;;) {
      if (remaining-- <= 0) throw malformedVariant('its values overlap, or it has none')
      this.appendValue(at, text)
      let frame = this.frames[this.depth - 1]
      while (this.depth > 0 && frame.done === frame.count) {
        text.appendByte(frame.isObject ? 0x7d : 0x5d)
        if (frame.isObject) this.orderCount = frame.firstOrder
        this.depth--
        frame = this.frames[this.depth - 1]
      }
      if (this.depth === 0) return
      at = this.nextElement(frame, text)
    }
  }

  private nextElement(frame: Frame, text: ByteSink): number {
    if (frame.done > 0) text.append(COMMA)
    const place = frame.isObject ? this.order[frame.firstOrder + frame.done] : frame.done
    frame.done++
    if (frame.isObject) {
      const id = this.idAt(frame, place)
      appendJsonString(text, this.metadata, this.keyStart(id), this.keyStart(id + 1))
      text.append(COLON)
    }
    return frame.dataAt + readUint(this.value, frame.offsetsAt + place * frame.width, frame.width)
  }

  /** Appends a scalar, or begins a container. */
  private appendValue(at: number, text: ByteSink): void {
    this.need(at, 1)
    const head = this.value[at]
    const flags = head >> 2
    switch (head & 3) {
      case BasicType.primitive:
        return this.appendPrimitive(flags, at + 1, text)
      case BasicType.shortString:
        this.need(at + 1, flags)
        return appendJsonString(text, this.value, at + 1, at + 1 + flags)
      case BasicType.object:
        text.appendByte(0x7b)
        return this.openContainer(at, true, (flags & 3) + 1, ((flags >> 2) & 3) + 1, (flags & 16) !== 0)
      default:
        text.appendByte(0x5b)
        return this.openContainer(at, false, (flags & 3) + 1, 0, (flags & 4) !== 0)
    }
  }

  private appendPrimitive(id: number, at: number, text: ByteSink): void {
    switch (id) {
      case PrimitiveId.null:
        return text.append(NULL)
      case PrimitiveId.true:
        return text.append(TRUE)
      case PrimitiveId.false:
        return text.append(FALSE)
      case PrimitiveId.int8:
        this.need(at, 1)
        return appendAscii(text, String((this.value[at] << 24) >> 24))
      case PrimitiveId.int16:
        this.need(at, 2)
        return appendAscii(text, String(this.view.getInt16(at, true)))
      case PrimitiveId.int32:
        return appendAscii(text, String(this.int32(at)))
      case PrimitiveId.int64:
        return appendAscii(text, String(this.int64(at)))
      case PrimitiveId.decimal4:
        return this.appendDecimal(text, at, this.int32(at + 1))
      case PrimitiveId.decimal8:
        return this.appendDecimal(text, at, this.int64(at + 1))
      case PrimitiveId.decimal16: {
        this.need(at, 17)
        return this.appendDecimal(text, at, (this.view.getBigInt64(at + 9, true) << 64n) | this.view.getBigUint64(at + 1, true))
      }
      case PrimitiveId.string: {
        this.need(at, 4)
        const size = readUint(this.value, at, 4)
        this.need(at + 4, size)
        return appendJsonString(text, this.value, at + 4, at + 4 + size)
      }
      default:
        throw new MoonlinkError(
          'invalid',
          'VARIANT_NOT_JSON',
          `a variant holds a value of primitive type ${id}, which JSON does not have; another writer must have put it there. Remove that row, or drop the table and add it again`,
        )
    }
  }

  private appendDecimal(text: ByteSink, at: number, unscaled: number | bigint): void {
    const scale = this.value[at]
    const isNegative = unscaled < 0
    const digits = String(unscaled)
      .slice(isNegative ? 1 : 0)
      .padStart(scale + 1, '0')
    if (isNegative) text.appendByte(0x2d)
    appendAscii(text, scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`)
  }

  private openContainer(at: number, isObject: boolean, width: number, idWidth: number, isLarge: boolean): void {
    const countWidth = isLarge ? 4 : 1
    this.need(at + 1, countWidth)
    const count = readUint(this.value, at + 1, countWidth)
    const idsAt = at + 1 + countWidth
    const offsetsAt = idsAt + count * idWidth
    const dataAt = offsetsAt + (count + 1) * width
    this.need(at, dataAt - at)
    const frame = (this.frames[this.depth] ??= newFrame())
    frame.isObject = isObject
    frame.count = count
    frame.done = 0
    frame.width = width
    frame.offsetsAt = offsetsAt
    frame.dataAt = dataAt
    frame.firstOrder = this.orderCount
    frame.idWidth = idWidth
    frame.idsAt = idsAt
    this.depth++
    if (isObject) this.sort(frame)
  }

  /** Puts the places of an object's keys into `order`, as jsonb has them. */
  private sort(frame: Frame): void {
    const first = this.orderCount
    const { count } = frame
    this.orderCount += count
    while (this.order.length < this.orderCount) this.order = grown(this.order)
    const { order } = this
    if (count > FEW_KEYS) {
      for (let place = 0; place < count; place++) order[first + place] = place
      order.subarray(first, first + count).sort((a, b) => this.compareKeys(this.idAt(frame, a), this.idAt(frame, b)))
      return
    }
    for (let place = 0; place < count; place++) {
      const id = this.idAt(frame, place)
      let to = first + place
      for (; to > first && this.compareKeys(this.idAt(frame, order[to - 1]), id) > 0; to--) order[to] = order[to - 1]
      order[to] = place
    }
  }

  /** Shorter keys first, those of one length by their bytes (`lengthCompareJsonbStringValue` of Postgres' jsonb_util.c). */
  private compareKeys(a: number, b: number): number {
    const startA = this.keyStart(a)
    const startB = this.keyStart(b)
    const size = this.keyStart(a + 1) - startA
    const difference = size - (this.keyStart(b + 1) - startB)
    if (difference !== 0) return difference
    const { metadata } = this
    for (let at = 0; at < size; at++)
      if (metadata[startA + at] !== metadata[startB + at]) return metadata[startA + at] - metadata[startB + at]
    return 0
  }

  private idAt({ idsAt, idWidth }: Frame, place: number): number {
    const id = readUint(this.value, idsAt + place * idWidth, idWidth)
    if (id >= this.keyCount) throw malformedVariant('an object has a key that its dictionary lacks')
    return id
  }

  private openMetadata(metadata: Uint8Array, start: number, end: number): void {
    const head = metadata[start]
    const width = (head >> 6) + 1
    if (start + 1 + width > end || (head & 15) !== METADATA_VERSION) throw malformedVariant('its metadata is not of version 1')
    this.metadata = metadata
    this.keyWidth = width
    this.keyCount = readUint(metadata, start + 1, width)
    this.keyOffsetsAt = start + 1 + width
    this.keysAt = this.keyOffsetsAt + (this.keyCount + 1) * width
    this.keysEnd = end
    if (this.keysAt > end) throw malformedVariant('its dictionary is cut off')
  }

  /** Where key `id` begins, which is where the one before ends. */
  private keyStart(id: number): number {
    const at = this.keysAt + readUint(this.metadata, this.keyOffsetsAt + id * this.keyWidth, this.keyWidth)
    if (at > this.keysEnd) throw malformedVariant('a key lies outside of its dictionary')
    return at
  }

  private int32(at: number): number {
    this.need(at, 4)
    return this.view.getInt32(at, true)
  }

  /** A number where that is exact. */
  private int64(at: number): number | bigint {
    this.need(at, 8)
    const value = this.view.getBigInt64(at, true)
    const number = Number(value)
    return Number.isSafeInteger(number) ? number : value
  }

  private need(at: number, size: number): void {
    if (at + size > this.end) throw malformedVariant('it is cut off')
  }
}

function newFrame(): Frame {
  return { isObject: false, count: 0, done: 0, width: 1, offsetsAt: 0, dataAt: 0, firstOrder: 0, idWidth: 1, idsAt: 0 }
}

function readUint(bytes: Uint8Array, at: number, width: number): number {
  let value = 0
  for (let byte = width - 1; byte >= 0; byte--) value = value * 256 + bytes[at + byte]
  return value
}

function appendAscii(sink: ByteSink, text: string): void {
  sink.reserve(text.length)
  for (let index = 0; index < text.length; index++) sink.bytes[sink.length + index] = text.charCodeAt(index)
  sink.length += text.length
}
