/** The portable Roaring encoding of any positions, written from the format's description alone; array and bitset containers. */
export function roaringOf(positions: Iterable<number>): Uint8Array {
  const containers = new Map<number, number[]>()
  for (const position of [...new Set(positions)].sort((a, b) => a - b)) {
    const key = position >>> 16
    const low = containers.get(key)
    if (low) low.push(position & 0xffff)
    else containers.set(key, [position & 0xffff])
  }
  const bodies = [...containers.values()].map((values) =>
    values.length > 4096 ? bitset(values) : new Uint8Array(Uint16Array.from(values).buffer),
  )
  const head = new DataView(new ArrayBuffer(8 + containers.size * 8))
  head.setUint32(0, 12346, true)
  head.setUint32(4, containers.size, true)
  let offset = head.byteLength
  for (const [index, [key, values]] of [...containers].entries()) {
    head.setUint16(8 + index * 4, key, true)
    head.setUint16(8 + index * 4 + 2, values.length - 1, true)
    head.setUint32(8 + containers.size * 4 + index * 4, offset, true)
    offset += bodies[index].length
  }
  return Uint8Array.from(Buffer.concat([new Uint8Array(head.buffer), ...bodies]))
}

/** Positions of an encoding with array and bitset containers. */
export function positionsOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const count = view.getUint32(4, true)
  const positions: number[] = []
  for (let index = 0; index < count; index++) {
    const high = view.getUint16(8 + index * 4, true) * 65_536
    const size = view.getUint16(8 + index * 4 + 2, true) + 1
    const at = view.getUint32(8 + count * 4 + index * 4, true)
    if (size <= 4096) for (let item = 0; item < size; item++) positions.push(high + view.getUint16(at + item * 2, true))
    else for (let bit = 0; bit < 65_536; bit++) if ((bytes[at + (bit >> 3)] >> (bit & 7)) & 1) positions.push(high + bit)
  }
  return positions
}

function bitset(values: readonly number[]): Uint8Array {
  const bits = new Uint8Array(8192)
  for (const value of values) bits[value >> 3] |= 1 << (value & 7)
  return bits
}
