import { checkPortable } from './portable-check.ts'
import { roaringLibrary, type Roaring, type RoaringLibrary } from './roaring.ts'

/**
 * A set of row positions (unsigned 32-bit): a Roaring bitmap. Both libraries behind it write the same bytes; after `runOptimize`
 * they may differ in containers that are as small either way.
 *
 * The memory of the WebAssembly library is not seen by the garbage collector: it is freed some time after the set is unreachable,
 * or at once by `dispose`. A disposed set must not be used.
 */
export class PositionSet {
  private readonly library: RoaringLibrary
  private readonly bitmap: Roaring

  /** An empty set. `library` is for tests; by default the one that loads. */
  constructor(library: RoaringLibrary = roaringLibrary(), bitmap: Roaring = library.create()) {
    this.library = library
    this.bitmap = bitmap
  }

  /**
   * Reads the portable format of RoaringFormatSpec, 32 bits. Throws `corrupt`/`BITMAP_CORRUPT` for anything that is not exactly one
   * such bitmap.
   */
  static fromPortable(bytes: Uint8Array, library: RoaringLibrary = roaringLibrary()): PositionSet {
    checkPortable(bytes)
    return new PositionSet(library, library.deserialize(bytes))
  }

  static from(positions: Uint32Array): PositionSet {
    const set = new PositionSet()
    set.addMany(positions)
    return set
  }

  get cardinality(): number {
    return this.bitmap.size
  }

  /** Returns true where the position was not in the set. */
  add(position: number): boolean {
    return this.bitmap.tryAdd(position)
  }

  /** Adds `positions[from … to)`, in any order. */
  addMany(positions: Uint32Array, from = 0, to = positions.length): void {
    if (to > from) this.bitmap.addMany(positions.subarray(from, to))
  }

  has(position: number): boolean {
    return this.bitmap.has(position)
  }

  removeMany(positions: Uint32Array): void {
    if (positions.length > 0) this.bitmap.removeMany(positions)
  }

  orInPlace(other: PositionSet): void {
    this.bitmap.orInPlace(other.bitmap)
  }

  /** A copy that shares nothing with this set. */
  clone(): PositionSet {
    return new PositionSet(this.library, this.bitmap.clone())
  }

  /** Stores runs as runs where that is smaller; `toPortable` then writes them so. */
  runOptimize(): void {
    this.bitmap.runOptimize()
  }

  /** The positions, ascending. */
  toArray(): Uint32Array {
    return this.bitmap.toUint32Array()
  }

  /** The portable format of RoaringFormatSpec, 32 bits. */
  toPortable(): Uint8Array {
    const bytes = this.bitmap.serialize('portable')
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Bytes held, about: those of the portable form. Takes time in the number of 65,536-row blocks, not of positions. */
  get byteSize(): number {
    return this.bitmap.getSerializationSizeInBytes('portable')
  }

  /** Frees the memory now. May be called again. */
  dispose(): void {
    this.bitmap.dispose()
  }
}
