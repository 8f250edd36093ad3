import type { ByteSink } from '@moonlink/core'

/** Values of a bit-packed run come in groups of so many; a run this long is written once with its length. */
const GROUP = 8

/**
 * Appends values `[from, to)` of `width` bits each (at most 24) in Parquet's RLE and bit-packing hybrid (Encodings.md of
 * apache/parquet-format).
 */
export function appendHybrid(sink: ByteSink, values: Uint8Array | Uint32Array, from: number, to: number, width: number): void {
  // Values before `packed` are written; those up to `at` wait to be bit-packed.
  let packed = from
  let at = from
  while (at < to) {
    const end = runEnd(values, at, to)
    // Packed values come in whole groups, so those that wait take from the run what they lack.
    const start = at + ((GROUP - ((at - packed) % GROUP)) % GROUP)
    if (end - start >= GROUP) {
      appendPacked(sink, values, packed, start, width)
      appendRun(sink, values[start], end - start, width)
      packed = end
    }
    at = end
  }
  appendPacked(sink, values, packed, to, width)
}

/** `count` times one value. */
export function appendRun(sink: ByteSink, value: number, count: number, width: number): void {
  sink.appendVarint(count * 2)
  for (let bits = 0; bits < width; bits += 8) sink.appendByte((value >>> bits) & 0xff)
}

/** Bits that the values `0 … greatest` need. */
export function bitWidth(greatest: number): number {
  return 32 - Math.clz32(greatest)
}

function runEnd(values: Uint8Array | Uint32Array, start: number, to: number): number {
  const value = values[start]
  let end = start + 1
  while (end < to && values[end] === value) end++
  return end
}

/** Values side by side, least significant bit first, the last group filled up with zeros. */
function appendPacked(sink: ByteSink, values: Uint8Array | Uint32Array, from: number, to: number, width: number): void {
  if (from === to) return
  const groups = Math.ceil((to - from) / GROUP)
  sink.appendVarint(groups * 2 + 1)
  sink.reserve(groups * width)
  const { bytes } = sink
  const end = sink.length + groups * width
  let at = sink.length
  let pending = 0
  let bits = 0
  for (let index = from; index < to; index++) {
    pending |= values[index] << bits
    bits += width
    while (bits >= 8) {
      bytes[at++] = pending & 0xff
      pending >>>= 8
      bits -= 8
    }
  }
  if (bits > 0) bytes[at++] = pending & 0xff
  bytes.fill(0, at, end)
  sink.length = end
}
