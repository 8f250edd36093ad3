/** A reader of VariantEncoding.md (apache/parquet-format) of its own, for tests: recursive, and strict in all that the page demands of writers. */

/** Numbers are their exact text. */
export type Tree =
  | null
  | boolean
  | string
  | { readonly number: string; readonly type: string }
  | readonly Tree[]
  | ReadonlyMap<string, Tree>

export function readVariant(metadata: Uint8Array, value: Uint8Array): Tree {
  const reader = new Reader(keysOf(metadata), value)
  const { tree, end } = reader.read(0)
  if (end !== value.length) throw new Error('bytes are left over')
  return tree
}

function keysOf(metadata: Uint8Array): string[] {
  const width = (metadata[0] >> 6) + 1
  if ((metadata[0] & 15) !== 1) throw new Error('version')
  const at = (index: number) => uint(metadata, 1 + index * width, width)
  const count = at(0)
  const start = 1 + (count + 2) * width
  if (at(1) !== 0 || start + at(count + 1) !== metadata.length) throw new Error('the dictionary has gaps')
  const bytes = Array.from({ length: count }, (_, id) => metadata.subarray(start + at(id + 1), start + at(id + 2)))
  for (let id = 1; id < count && metadata[0] & 16; id++) if (Buffer.compare(bytes[id - 1], bytes[id]) >= 0) throw new Error('not sorted')
  const keys = bytes.map((key) => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(key))
  if (new Set(keys).size < keys.length) throw new Error('a key is there twice')
  return keys
}

class Reader {
  private readonly keys: readonly string[]
  private readonly bytes: Uint8Array
  private readonly view: DataView

  constructor(keys: readonly string[], bytes: Uint8Array) {
    this.keys = keys
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  read(at: number): { readonly tree: Tree; readonly end: number } {
    const head = this.bytes[at]
    const flags = head >> 2
    if ((head & 3) === 1) return this.text(at + 1, flags)
    if ((head & 3) === 0) return this.primitive(flags, at + 1)
    const isObject = (head & 3) === 2
    const width = (flags & 3) + 1
    const idWidth = isObject ? ((flags >> 2) & 3) + 1 : 0
    const countWidth = flags & (isObject ? 16 : 4) ? 4 : 1
    const count = uint(this.bytes, at + 1, countWidth)
    if (countWidth === 4 && count < 256) throw new Error('a small container is marked as large')
    const idsAt = at + 1 + countWidth
    const offsetsAt = idsAt + count * idWidth
    const dataAt = offsetsAt + (count + 1) * width
    const offsets = Array.from({ length: count + 1 }, (_, index) => uint(this.bytes, offsetsAt + index * width, width))
    const parts = offsets.slice(0, count).map((offset) => ({ offset, ...this.read(dataAt + offset) }))
    // Side by side, without gaps, up to the last offset.
    let next = dataAt
    for (const part of parts.toSorted((a, b) => a.offset - b.offset)) {
      if (dataAt + part.offset !== next) throw new Error('elements have gaps between them')
      next = part.end
    }
    if (next !== dataAt + offsets[count]) throw new Error('the last offset is not the end')
    if (!isObject) return { tree: parts.map(({ tree }) => tree), end: next }
    const names = parts.map((_, index) => this.keys[uint(this.bytes, idsAt + index * idWidth, idWidth)])
    for (let index = 1; index < count; index++)
      if (Buffer.compare(Buffer.from(names[index - 1]), Buffer.from(names[index])) >= 0) throw new Error('keys are not sorted')
    return { tree: new Map(names.map((name, index) => [name, parts[index].tree])), end: next }
  }

  private text(at: number, size: number): { tree: string; end: number } {
    const bytes = this.bytes.subarray(at, at + size)
    return { tree: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes), end: at + size }
  }

  private primitive(id: number, at: number): { tree: Tree; end: number } {
    if (id === 0) return { tree: null, end: at }
    if (id === 1 || id === 2) return { tree: id === 1, end: at }
    if (id === 16) {
      const size = this.view.getUint32(at, true)
      if (size < 64) throw new Error('a short string is written as a long one')
      return this.text(at + 4, size)
    }
    const integer = (bits: number, start: number) => {
      let value = 0n
      for (let byte = bits / 8 - 1; byte >= 0; byte--) value = (value << 8n) | BigInt(this.bytes[start + byte])
      return BigInt.asIntN(bits, value)
    }
    const bits = { 3: 8, 4: 16, 5: 32, 6: 64 }[id]
    if (bits !== undefined) {
      const value = integer(bits, at)
      if (bits > 8 && BigInt.asIntN(bits / 2, value) === value) throw new Error('not the narrowest integer')
      return { tree: { number: String(value), type: `int${bits}` }, end: at + bits / 8 }
    }
    const size = { 8: 4, 9: 8, 10: 16 }[id]
    if (size === undefined) throw new Error(`primitive ${id}`)
    const scale = this.bytes[at]
    const unscaled = integer(size * 8, at + 1)
    const sign = unscaled < 0n ? '-' : ''
    const digits = String(unscaled)
      .replace('-', '')
      .padStart(scale + 1, '0')
    // Spark takes a scale for invalid that is greater than its type's precision.
    const precision = { 4: 9, 8: 18, 16: 38 }[size]!
    if (scale > precision || digits.replace(/^0+/, '').length > precision) throw new Error('a decimal exceeds its type')
    const number = scale === 0 ? sign + digits : `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`
    return { tree: { number, type: `decimal${size}` }, end: at + 1 + size }
  }
}

function uint(bytes: Uint8Array, at: number, width: number): number {
  if (at + width > bytes.length) throw new Error('cut off')
  return Array.from({ length: width }, (_, byte) => bytes[at + byte] * 256 ** byte).reduce((sum, part) => sum + part, 0)
}

/** As Postgres prints the tree as jsonb. */
export function jsonbText(tree: Tree): string {
  if (tree === null || typeof tree === 'boolean') return String(tree)
  if (typeof tree === 'string') return quoted(tree)
  if (Array.isArray(tree)) return `[${(tree as readonly Tree[]).map(jsonbText).join(', ')}]`
  if (tree instanceof Map) {
    const entries = [...(tree as ReadonlyMap<string, Tree>)].map(([key, value]) => ({ bytes: Buffer.from(key), key, value }))
    entries.sort((a, b) => a.bytes.length - b.bytes.length || Buffer.compare(a.bytes, b.bytes))
    return `{${entries.map(({ key, value }) => `${quoted(key)}: ${jsonbText(value)}`).join(', ')}}`
  }
  return (tree as { number: string }).number
}

/** JSON.stringify escapes DEL and others just as Postgres does: not at all. */
function quoted(text: string): string {
  return JSON.stringify(text)
}
