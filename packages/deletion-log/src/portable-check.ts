import { MoonlinkError } from '@moonlink/core'

const COOKIE_WITHOUT_RUNS = 12346
const COOKIE_WITH_RUNS = 12347
const NO_OFFSETS_BELOW = 4
const MAX_ARRAY_VALUES = 4096
const BITSET_BYTES = 8192

/**
 * Checks that bytes are one 32-bit Roaring bitmap in the portable format and nothing else (RoaringFormatSpec), contents included:
 * the libraries trust what they are given, the native one with the process's memory. Throws `corrupt`/`BITMAP_CORRUPT`.
 */
export function checkPortable(bytes: Uint8Array): void {
  const reader = new PortableReader(bytes)
  const { containers, runFlags } = readPrologue(reader)
  const keysAt = reader.take(containers * 4)
  const hasOffsets = runFlags < 0 || containers >= NO_OFFSETS_BELOW
  const offsetsAt = hasOffsets ? reader.take(containers * 4) : -1
  for (let index = 0; index < containers; index++) {
    if (index > 0) reader.expect(reader.u16(keysAt + index * 4) > reader.u16(keysAt + index * 4 - 4), 'container keys ascend')
    if (hasOffsets) reader.expect(reader.u32(offsetsAt + index * 4) === reader.position, 'a container starts where its offset says')
    const cardinality = reader.u16(keysAt + index * 4 + 2) + 1
    const isRun = runFlags >= 0 && (bytes[runFlags + (index >> 3)] >> (index & 7)) & 1
    if (isRun) checkRuns(reader, cardinality)
    else if (cardinality <= MAX_ARRAY_VALUES) checkArray(reader, cardinality)
    else checkBitset(reader, cardinality)
  }
  reader.expect(reader.position === bytes.length, 'nothing follows the last container')
}

function readPrologue(reader: PortableReader): { readonly containers: number; readonly runFlags: number } {
  const cookie = reader.u32(reader.take(4))
  if (cookie === COOKIE_WITHOUT_RUNS) {
    const containers = reader.u32(reader.take(4))
    reader.expect(containers <= 0x1_0000, 'at most 65,536 containers')
    return { containers, runFlags: -1 }
  }
  reader.expect((cookie & 0xffff) === COOKIE_WITH_RUNS, 'a known cookie')
  const containers = (cookie >>> 16) + 1
  return { containers, runFlags: reader.take((containers + 7) >> 3) }
}

function checkArray(reader: PortableReader, cardinality: number): void {
  const at = reader.take(cardinality * 2)
  for (let index = 1; index < cardinality; index++) {
    reader.expect(reader.u16(at + index * 2) > reader.u16(at + index * 2 - 2), 'array values ascend')
  }
}

function checkBitset(reader: PortableReader, cardinality: number): void {
  const at = reader.take(BITSET_BYTES)
  let count = 0
  for (let offset = 0; offset < BITSET_BYTES; offset += 4) count += popCount(reader.u32(at + offset))
  reader.expect(count === cardinality, 'a bitset has as many bits as its cardinality')
}

function checkRuns(reader: PortableReader, cardinality: number): void {
  const runs = reader.u16(reader.take(2))
  const at = reader.take(runs * 4)
  let count = 0
  let end = -1
  for (let index = 0; index < runs; index++) {
    const start = reader.u16(at + index * 4)
    const length = reader.u16(at + index * 4 + 2) + 1
    reader.expect(start > end, 'runs ascend and do not overlap')
    end = start + length - 1
    count += length
  }
  reader.expect(end <= 0xffff && count === cardinality, 'runs have as many values as their cardinality')
}

function popCount(word: number): number {
  word -= (word >>> 1) & 0x5555_5555
  word = (word & 0x3333_3333) + ((word >>> 2) & 0x3333_3333)
  return Math.imul((word + (word >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24
}

class PortableReader {
  position = 0
  private readonly view: DataView

  constructor(bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Steps over `count` bytes; returns where they start. */
  take(count: number): number {
    const at = this.position
    this.expect(at + count <= this.view.byteLength, 'the bitmap is complete')
    this.position = at + count
    return at
  }

  u16(at: number): number {
    return this.view.getUint16(at, true)
  }

  u32(at: number): number {
    return this.view.getUint32(at, true)
  }

  expect(condition: boolean, what: string): void {
    if (condition) return
    throw new MoonlinkError('corrupt', 'BITMAP_CORRUPT', `not a portable Roaring bitmap: expected that ${what}.`, {
      context: { position: this.position, byteLength: this.view.byteLength },
    })
  }
}
