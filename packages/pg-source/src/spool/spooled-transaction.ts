import { crc32 } from 'node:zlib'
import { assert, MoonlinkError } from '@moonlink/core'
import type { SpoolFile, SpoolFiles } from './spool-files.ts'

/** Blocks begin with so much room, so that what is read back can be preceded by a header of the reader's. */
export const LEAD_BYTES = 32
const BLOCK_BYTES = 256 * 1024
const FIRST_BYTES = 8 * 1024
/** Before each message: its length and its subtransaction. */
const RECORD_HEADER = 8
const EMPTY = Buffer.alloc(0)

/** Whole records, in memory or in the file. */
interface Block {
  /** Null where it is in the file. The first `LEAD_BYTES` are room. */
  bytes: Buffer | null
  /** Where it is in the file; -1 where it is not. */
  offset: number
  /** Bytes of records. */
  length: number
  /** Of the records, once they are in the file. */
  checksum: number
  /** The youngest subtransaction that has a record before this block, counted from the top-level transaction's id. */
  readonly youngestBefore: number
}

/** Gives the messages one after the other: `bytes[start … end)`, valid until `next`. The `LEAD_BYTES` before it may be overwritten. */
export interface SpoolReader {
  readonly bytes: Buffer
  readonly start: number
  readonly end: number
  /** False where there is no further one. */
  next(): boolean
}

/**
 * The messages of one transaction in progress, in order. They lie in memory until `spill` moves them to a file.
 *
 * Postgres gives ids to subtransactions as they first write, parents before children, so the first message of an aborted one is where
 * everything begins that its abort takes back.
 */
export class SpooledTransaction {
  readonly xid: number
  private readonly files: SpoolFiles | null
  private blocks: Block[] = []
  private youngest = 0
  private file: SpoolFile | null = null
  private fileEnd = 0
  /** Bytes held in memory, and bytes of all messages. */
  memoryBytes = 0
  totalBytes = 0

  constructor(xid: number, files: SpoolFiles | null) {
    this.xid = xid
    this.files = files
  }

  /** Appends a message made of a type and a body; copies them. */
  append(subxid: number, type: number, body: Uint8Array): void {
    const size = RECORD_HEADER + 1 + body.length
    const block = this.blockFor(size)
    const { bytes } = block
    let at = LEAD_BYTES + block.length
    at = bytes.writeUInt32LE(1 + body.length, at)
    at = bytes.writeUInt32LE(subxid, at)
    bytes[at++] = type
    bytes.set(body, at)
    block.length += size
    this.totalBytes += size
    this.youngest = Math.max(this.youngest, this.age(subxid))
  }

  /** Takes back what a subtransaction, and those within it, have done. */
  abortSubtransaction(subxid: number): void {
    const age = this.age(subxid)
    if (age > this.youngest) return
    let from = this.blocks.length - 1
    while (from > 0 && this.blocks[from].youngestBefore >= age) from--
    for (let index = from; index < this.blocks.length; index++) {
      const block = this.load(this.blocks[index])
      const at = firstOf(block, subxid)
      if (at < 0) continue
      // `youngest` may be too high from now on, which only makes a later search begin earlier.
      return this.cut(index, at, block.bytes)
    }
  }

  /** Moves what is in memory to the file, the block being filled included. */
  spill(): void {
    assert(this.files !== null, 'a spool without files is not spilled')
    for (const block of this.blocks) if (block.length === 0) this.release(block)
    this.blocks = this.blocks.filter((block) => block.length > 0)
    for (const block of this.blocks) {
      if (block.bytes === null) continue
      this.file ??= this.files.create()
      const records = block.bytes.subarray(LEAD_BYTES, LEAD_BYTES + block.length)
      this.file.write(records, this.fileEnd)
      block.checksum = crc32(records)
      block.offset = this.fileEnd
      this.fileEnd += block.length
      this.memoryBytes -= block.bytes.length
      block.bytes = null
    }
  }

  /** Reads all messages, once: memory is given back on the way. Throws `retry`/`SPOOL_DAMAGED` where the file is not what was written. */
  read(): SpoolReader {
    const { blocks } = this
    let shared: Buffer | null = null
    let index = -1
    let blockEnd = 0
    const open = (block: Block): Buffer => {
      if (block.bytes !== null) return block.bytes
      if (shared === null || shared.length < LEAD_BYTES + block.length) {
        shared = Buffer.allocUnsafeSlow(LEAD_BYTES + Math.max(block.length, BLOCK_BYTES))
      }
      this.readBlock(block, shared)
      return shared
    }
    const reader: { bytes: Buffer; start: number; end: number; next: () => boolean } = {
      bytes: EMPTY,
      start: 0,
      end: 0,
      next: () => {
        while (reader.end === blockEnd) {
          if (index >= 0) this.release(blocks[index])
          if (++index >= blocks.length) return false
          reader.bytes = open(blocks[index])
          reader.end = LEAD_BYTES
          blockEnd = LEAD_BYTES + blocks[index].length
        }
        reader.start = reader.end + RECORD_HEADER
        reader.end = reader.start + reader.bytes.readUInt32LE(reader.start - RECORD_HEADER)
        return true
      },
    }
    return reader
  }

  private release(block: Block): void {
    this.totalBytes -= block.length
    this.memoryBytes -= block.bytes?.length ?? 0
    block.bytes = null
    block.length = 0
  }

  /** Gives everything back. */
  remove(): void {
    this.blocks = []
    this.memoryBytes = this.totalBytes = 0
    this.file?.remove()
    this.file = null
  }

  private age(subxid: number): number {
    return (subxid - this.xid) >>> 0
  }

  private blockFor(size: number): Block & { bytes: Buffer } {
    const last = this.blocks.at(-1)
    if (last?.bytes && last.length + size <= BLOCK_BYTES) {
      if (LEAD_BYTES + last.length + size > last.bytes.length) this.grow(last as Block & { bytes: Buffer }, size)
      return last as Block & { bytes: Buffer }
    }
    const bytes = Buffer.allocUnsafeSlow(LEAD_BYTES + Math.max(size, last === undefined ? FIRST_BYTES : BLOCK_BYTES))
    const block = { bytes, offset: -1, length: 0, checksum: 0, youngestBefore: this.youngest }
    this.blocks.push(block)
    this.memoryBytes += bytes.length
    return block
  }

  private grow(block: Block & { bytes: Buffer }, size: number): void {
    const grown = Buffer.allocUnsafeSlow(LEAD_BYTES + Math.min(BLOCK_BYTES, Math.max(block.length + size, block.length * 2)))
    block.bytes.copy(grown, 0, 0, LEAD_BYTES + block.length)
    this.memoryBytes += grown.length - block.bytes.length
    block.bytes = grown
  }

  /** The block's bytes, read back where they are in the file; it stays there. */
  private load(block: Block): Block & { bytes: Buffer } {
    if (block.bytes !== null) return block as Block & { bytes: Buffer }
    const bytes = Buffer.allocUnsafeSlow(LEAD_BYTES + block.length)
    this.readBlock(block, bytes)
    return { ...block, bytes }
  }

  private readBlock(block: Block, into: Buffer): void {
    assert(this.file !== null, 'a block that is not in memory is in the file')
    const records = into.subarray(LEAD_BYTES, LEAD_BYTES + block.length)
    this.file.read(records, block.offset)
    if (crc32(records) === block.checksum) return
    const message =
      'a transaction in progress was damaged on disk, in the spool of the state directory; it is asked for again. Check that disk.'
    throw new MoonlinkError('retry', 'SPOOL_DAMAGED', message, { context: { xid: this.xid } })
  }

  /** Drops everything from record `at` of block `index` on. */
  private cut(index: number, at: number, bytes: Buffer): void {
    for (const block of this.blocks.splice(index + 1)) {
      this.totalBytes -= block.length
      this.memoryBytes -= block.bytes?.length ?? 0
    }
    const block = this.blocks[index]
    this.totalBytes -= block.length - (at - LEAD_BYTES)
    block.length = at - LEAD_BYTES
    if (block.bytes === null) block.checksum = crc32(bytes.subarray(LEAD_BYTES, at))
    // The next spill writes over what was dropped.
    const kept = this.blocks.findLast(({ offset, bytes }) => bytes === null && offset >= 0)
    this.fileEnd = kept === undefined ? 0 : kept.offset + kept.length
  }
}

/** Where the first record of a subtransaction begins in a block, or -1. */
function firstOf(block: Block & { bytes: Buffer }, subxid: number): number {
  const { bytes, length } = block
  for (let at = LEAD_BYTES; at < LEAD_BYTES + length; at += RECORD_HEADER + bytes.readUInt32LE(at)) {
    if (bytes.readUInt32LE(at + 4) === subxid) return at
  }
  return -1
}
