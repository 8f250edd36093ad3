import type { Field } from '../types.ts'

/** A file on local disk that stays there until released. */
export interface PinnedFile {
  readonly path: string
  release(): void
}

/**
 * Parquet files as local copies in which each variant is a string, its text: for readers that make something else of variants. A copy has the same rows in the same order, and the
 * given fields under their ids, in their present types.
 */
export interface TextCopies {
  /** Pins the copy, which is made if there is none. Throws what `LocalFiles.pin` does, and what reading and writing the file do. */
  pin(uri: string, sizeBytes: number, fields: readonly Field[]): Promise<PinnedFile>
}

/** Objects as local files, for readers that open paths: the object's own file on local disk, else a copy in a bounded cache. */
export interface LocalFiles {
  /**
   * Pins the object. Concurrent pins of one object fetch it once. Throws `invalid`/`OBJECT_NOT_FOUND`, or
   * `invalid`/`CACHE_TOO_SMALL` where the object alone exceeds the cache's limit.
   */
  pin(uri: string, sizeBytes: number): Promise<PinnedFile>
  /** The object's copy is damaged: it is let go of, and the next pin makes another. False where there is none, as where the object is a local file itself. */
  drop(uri: string, sizeBytes: number): Promise<boolean>
}
