import { assert, MoonlinkError, type DiskFile } from '@moonlink/core'
import { BLOCK_BYTES, BLOCK_WORDS, isIntact } from './blocks.ts'

const SLAB_BLOCKS = 256
const MIN_BLOCKS = 16
const NO_SLOT = -1

/** A file whose blocks go through a cache. Made and closed by the sealed index that owns it. */
export class CachedFile {
  readonly path: string
  readonly open: DiskFile
  /** Block number → cache slot, or -1. */
  readonly slots: Int32Array
  isClosed = false

  constructor(path: string, open: DiskFile, blockCount: number) {
    this.path = path
    this.open = open
    this.slots = new Int32Array(blockCount).fill(NO_SLOT)
  }
}

/**
 * A bounded cache of index blocks, shared by any number of sealed indexes. Reads are synchronous (a `pread` of 4 KiB where the block
 * is not held) and verified by checksum. What goes first is what was not used since the hand last passed it (the CLOCK rule).
 *
 * Memory: at most `maxBytes` (64 KiB at least), taken in steps of 1 MiB as it is needed, and kept.
 */
export class BlockCache {
  private readonly maxBlocks: number
  private readonly slabs: Int32Array<ArrayBuffer>[] = []
  private readonly files: (CachedFile | null)[] = []
  private readonly blocks: number[] = []
  private readonly used: Uint8Array
  private readonly free: number[] = []
  private hand = 0
  /** Blocks read from disk so far. */
  readCount = 0
  /** Words of the block that `fetch` found last; valid until the next `fetch`. */
  words: Int32Array = new Int32Array(0)

  constructor(maxBytes: number) {
    this.maxBlocks = Math.max(MIN_BLOCKS, Math.floor(maxBytes / BLOCK_BYTES))
    this.used = new Uint8Array(this.maxBlocks)
  }

  /** Bytes held in memory. */
  get byteSize(): number {
    return this.slabs.reduce((sum, slab) => sum + slab.byteLength, 0) + this.maxBlocks + this.blocks.length * 16
  }

  /**
   * Finds a block: returns where it starts in `words`, which stays so until the next `fetch`. Throws `retry`/`INDEX_UNREADABLE`, and `corrupt`/`INDEX_CORRUPT`
   * where the file's bytes are not those that were written.
   */
  fetch(file: CachedFile, block: number): number {
    let slot = file.slots[block]
    // Only a second use counts, so blocks that are read once do not push out those that are read often.
    if (slot === NO_SLOT) slot = this.load(file, block)
    else this.used[slot] = 1
    this.words = this.slabs[slot >> 8]!
    return (slot & (SLAB_BLOCKS - 1)) * BLOCK_WORDS
  }

  /** Lets go of a file's blocks. */
  forget(file: CachedFile): void {
    for (const slot of file.slots) if (slot !== NO_SLOT) this.release(slot)
    file.slots.fill(NO_SLOT)
  }

  private load(file: CachedFile, block: number): number {
    assert(!file.isClosed, 'a closed index is not read', { path: file.path })
    const slot = this.takeSlot()
    const slab = this.slabs[slot >> 8]
    const at = (slot & (SLAB_BLOCKS - 1)) * BLOCK_WORDS
    this.readCount++
    try {
      readBlock(file, block, slab, at)
    } catch (error) {
      this.free.push(slot)
      throw error
    }
    this.files[slot] = file
    this.blocks[slot] = block
    this.used[slot] = 0
    file.slots[block] = slot
    return slot
  }

  private takeSlot(): number {
    const free = this.free.pop()
    if (free !== undefined) return free
    const count = this.files.length
    if (count < this.maxBlocks) {
      if (count % SLAB_BLOCKS === 0) {
        this.slabs.push(new Int32Array(Math.min(SLAB_BLOCKS, this.maxBlocks - count) * BLOCK_WORDS))
      }
      this.files.push(null)
      this.blocks.push(0)
      return count
    }
    return this.evict()
  }

  /** Moves the hand to a slot not used since it last came by. With every slot in use, it takes two rounds at most. */
  private evict(): number {
    for (;;) {
      const slot = this.hand
      this.hand = slot + 1 === this.maxBlocks ? 0 : slot + 1
      if (this.used[slot]) {
        this.used[slot] = 0
        continue
      }
      const file = this.files[slot]
      if (file) file.slots[this.blocks[slot]] = NO_SLOT
      this.files[slot] = null
      return slot
    }
  }

  private release(slot: number): void {
    this.files[slot] = null
    this.used[slot] = 0
    this.free.push(slot)
  }
}

function readFrom({ open, path }: CachedFile, bytes: Uint8Array, position: number): number {
  try {
    return open.readSync(bytes, position)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause)
    const message = `the key index ${path} can't be read (${code}): check its disk.`
    throw new MoonlinkError('retry', 'INDEX_UNREADABLE', message, { context: { path }, cause })
  }
}

function readBlock(file: CachedFile, block: number, words: Int32Array, at: number): void {
  const bytes = new Uint8Array(words.buffer, words.byteOffset + at * 4, BLOCK_BYTES)
  const count = readFrom(file, bytes, block * BLOCK_BYTES)
  if (count === BLOCK_BYTES && isIntact(words, at, block)) return
  throw new MoonlinkError(
    'corrupt',
    'INDEX_CORRUPT',
    `${file.path}: block ${block} of the key index is damaged. Remove the file; it is made again from data.`,
    {
      context: { path: file.path, block },
    },
  )
}
