import { ByteSink } from '../byte-sink.ts'
import { JsonNumber } from './json-number.ts'
import { endOfString, unescape } from './json-string.ts'
import { bytesOf, grown, KeyDictionary } from './key-dictionary.ts'
import { malformedJson, unfitJson } from './variant-error.ts'
import { BasicType, MAX_SHORT_STRING, MAX_SMALL_COUNT, PrimitiveId } from './variant-format.ts'

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const OPEN = { object: 0x7b, array: 0x5b } as const
const CLOSE = { object: 0x7d, array: 0x5d } as const
/** Above so many keys an object's are sorted by the engine's sort. */
const FEW_KEYS = 24

/** The numbers that have no exact form. */
const TOO_LONG = 'it has a number of more than 38 digits, or of more than 38 behind its point'

const WORDS: readonly (readonly [text: Uint8Array, id: number])[] = (['null', 'true', 'false'] as const).map((word) => [
  new TextEncoder().encode(word),
  PrimitiveId[word],
])

/**
 * JSON text to Parquet's Variant encoding, one value after the other behind those before. Without recursion, so that no depth is too great, and
 * without an object a value. Numbers are exact; keys lie in the dictionary in the order in which they come.
 */
export class VariantEncoder {
  /** The values' halves so far. The caller empties them by their length. */
  readonly metadata = new ByteSink()
  readonly values = new ByteSink()

  private readonly keys = new KeyDictionary()
  private readonly number = new JsonNumber()
  private source: Uint8Array = new Uint8Array(0)
  private at = 0
  private end = 0

  /** Containers that are open: where their elements begin in `values`, and among `offsets`. */
  private depth = 0
  private starts = new Int32Array(32)
  private firsts = new Int32Array(32)
  private objects = new Int32Array(32)
  /** Of the elements of all open containers: offset within its container, and number of its key. */
  private elementCount = 0
  private offsets = new Int32Array(64)
  private ids = new Int32Array(64)
  private order = new Int32Array(64)

  /**
   * Appends the JSON text `source[start … end)`. Throws `invalid`: `VARIANT_UNFIT` for what has no exact form (a number of more than 38 digits or of more than 38 behind its point, a
   * key twice in an object, `\u0000`, half of a surrogate pair), `VARIANT_JSON_MALFORMED` for what is no JSON; nothing is appended then.
   */
  append(source: Uint8Array, start: number, end: number): void {
    const length = this.values.length
    this.source = source
    this.at = start
    this.end = end
    this.depth = 0
    this.elementCount = 0
    this.keys.clear()
    try {
      while (!this.readValue() || !this.endValue());
      if (this.next() >= 0) throw malformedJson(source, this.at, end)
    } catch (error) {
      this.values.length = length
      throw error
    }
    this.keys.appendMetadata(this.metadata)
  }

  /** Reads a whole value, or into the first element of a container: then false. */
  private readValue(): boolean {
    const byte = this.next()
    if (byte === QUOTE) this.readString()
    else if (byte === OPEN.object || byte === OPEN.array) return this.open(byte === OPEN.object)
    else if (byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) this.readNumber()
    else this.readWord()
    return true
  }

  /** Behind a value: closes what ends there, up to the next element. True where the outermost value has ended. */
  private endValue(): boolean {
    while (this.depth > 0) {
      const byte = this.next()
      const isObject = this.objects[this.depth - 1] === 1
      if (byte === COMMA) {
        this.at++
        this.beginElement(isObject)
        return false
      }
      if (byte !== (isObject ? CLOSE.object : CLOSE.array)) throw malformedJson(this.source, this.at, this.end)
      this.at++
      this.close()
    }
    return true
  }

  /** True where the container is empty, and so has ended. */
  private open(isObject: boolean): boolean {
    this.at++
    if (this.depth === this.starts.length) {
      this.starts = grown(this.starts)
      this.firsts = grown(this.firsts)
      this.objects = grown(this.objects)
    }
    this.starts[this.depth] = this.values.length
    this.firsts[this.depth] = this.elementCount
    this.objects[this.depth] = isObject ? 1 : 0
    this.depth++
    if (this.next() === (isObject ? CLOSE.object : CLOSE.array)) {
      this.at++
      this.close()
      return true
    }
    this.beginElement(isObject)
    return false
  }

  private beginElement(isObject: boolean): void {
    const id = isObject ? this.readKey() : 0
    if (this.elementCount === this.offsets.length) {
      this.offsets = grown(this.offsets)
      this.ids = grown(this.ids)
      this.order = grown(this.order)
    }
    this.ids[this.elementCount] = id
    this.offsets[this.elementCount] = this.values.length - this.starts[this.depth - 1]
    this.elementCount++
  }

  /** Moves the elements, which lie there already, behind the container's header. */
  private close(): void {
    this.depth--
    const start = this.starts[this.depth]
    const first = this.firsts[this.depth]
    const isObject = this.objects[this.depth] === 1
    const count = this.elementCount - first
    const size = this.values.length - start
    const isLarge = count > MAX_SMALL_COUNT
    if (isObject) this.sort(first, count)
    const idWidth = isObject ? bytesOf(this.greatestId(first, count)) : 0
    const width = bytesOf(size)
    const header = (isLarge ? 5 : 2) + count * idWidth + (count + 1) * width
    this.values.reserve(header)
    const { bytes } = this.values
    const flags = isObject ? (width - 1) | ((idWidth - 1) << 2) | (isLarge ? 16 : 0) : (width - 1) | (isLarge ? 4 : 0)
    bytes.copyWithin(start + header, start, start + size)
    this.writeHeader(start, (isObject ? BasicType.object : BasicType.array) | (flags << 2), isLarge, {
      first,
      count,
      idWidth,
      width,
      size,
      isObject,
    })
    this.values.length = start + header + size
    this.elementCount = first
  }

  private writeHeader(
    start: number,
    head: number,
    isLarge: boolean,
    { first, count, idWidth, width, size, isObject }: ContainerLayout,
  ): void {
    const { bytes } = this.values
    let at = start
    bytes[at++] = head
    at = writeUint(bytes, at, count, isLarge ? 4 : 1)
    if (isObject) for (let index = 0; index < count; index++) at = writeUint(bytes, at, this.ids[this.order[index]], idWidth)
    for (let index = 0; index < count; index++) at = writeUint(bytes, at, this.offsets[isObject ? this.order[index] : first + index], width)
    writeUint(bytes, at, size, width)
  }

  /** Puts the places of an object's elements into `order`, by their keys' bytes. */
  private sort(first: number, count: number): void {
    const { order, ids, keys } = this
    if (count > FEW_KEYS) {
      for (let index = 0; index < count; index++) order[index] = first + index
      order.subarray(0, count).sort((a, b) => keys.compare(ids[a], ids[b]))
    } else {
      for (let index = 0; index < count; index++) {
        let to = index
        for (; to > 0 && keys.compare(ids[order[to - 1]], ids[first + index]) > 0; to--) order[to] = order[to - 1]
        order[to] = first + index
      }
    }
    for (let index = 1; index < count; index++) {
      if (ids[order[index]] === ids[order[index - 1]])
        throw unfitJson(`it has the key "${keys.text(ids[order[index]])}" twice in one object`)
    }
  }

  private greatestId(first: number, count: number): number {
    let greatest = 0
    for (let index = first; index < first + count; index++) greatest = Math.max(greatest, this.ids[index])
    return greatest
  }

  private readKey(): number {
    if (this.next() !== QUOTE) throw malformedJson(this.source, this.at, this.end)
    const start = this.at + 1
    const close = endOfString(this.source, start, this.end)
    if (close >= 0) this.keys.bytes.append(this.source.subarray(start, close))
    else unescape(this.source, start, -close, this.keys.bytes)
    this.at = Math.abs(close) + 1
    if (this.next() !== COLON) throw malformedJson(this.source, this.at, this.end)
    this.at++
    return this.keys.add()
  }

  private readString(): void {
    const { values, source } = this
    const start = this.at + 1
    const close = endOfString(source, start, this.end)
    this.at = Math.abs(close) + 1
    if (close >= 0) {
      this.beginString(close - start)
      values.append(source.subarray(start, close))
      return
    }
    const from = values.length
    unescape(source, start, -close, values)
    const size = values.length - from
    const header = size > MAX_SHORT_STRING ? 5 : 1
    values.reserve(header)
    values.bytes.copyWithin(from + header, from, from + size)
    values.length = from
    this.beginString(size)
    values.length += size
  }

  private beginString(size: number): void {
    const { values } = this
    if (size <= MAX_SHORT_STRING) return values.appendByte(BasicType.shortString | (size << 2))
    values.appendByte(PrimitiveId.string << 2)
    values.appendUint32(size)
  }

  private readNumber(): void {
    this.at = this.number.read(this.source, this.at, this.end)
    if (!this.number.fits) throw unfitJson(TOO_LONG)
    this.number.append(this.values)
  }

  private readWord(): void {
    const { source, at, end } = this
    for (const [text, id] of WORDS) {
      if (at + text.length > end || !text.every((byte, index) => source[at + index] === byte)) continue
      this.values.appendByte(id << 2)
      this.at = at + text.length
      return
    }
    throw malformedJson(source, at, end)
  }

  /** The next byte that is no white space, which `at` then names; -1 at the end. */
  private next(): number {
    const { source, end } = this
    let { at } = this
    while (at < end && (source[at] === 0x20 || source[at] === 0x0a || source[at] === 0x0d || source[at] === 0x09)) at++
    this.at = at
    return at < end ? source[at] : -1
  }
}

interface ContainerLayout {
  readonly first: number
  readonly count: number
  readonly idWidth: number
  readonly width: number
  readonly size: number
  readonly isObject: boolean
}

function writeUint(bytes: Uint8Array, at: number, value: number, width: number): number {
  for (let byte = 0; byte < width; byte++) bytes[at + byte] = value >>> (8 * byte)
  return at + width
}
