import type { Field } from '../types.ts'

/** A file on local disk that stays there until released. */
export interface PinnedFile {
  readonly path: string
  /** The file may go. Fine to call again. */
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

/** An object that never changes. */
export interface FileObject {
  readonly uri: string
  readonly sizeBytes: number
}

export interface PinOptions {
  /** How long to wait for room that other pins hold, in ms; nothing is held meanwhile. Default: the implementation's. */
  readonly waitMs?: number
  /** Ends the waiting with its reason. */
  readonly signal?: AbortSignal
}

/** Local files by the set: who needs several at once takes all or none, so that two who each wait for the other's can't be. */
export interface LocalFileSets extends LocalFiles {
  /** Pins all of them, in their order. Throws what `pin` does, `invalid`/`CACHE_TOO_SMALL` at once where they exceed the cache's limit together. */
  pinAll(files: readonly FileObject[], options?: PinOptions): Promise<readonly PinnedFile[]>
  /**
   * The files in their order, in runs that each can be pinned at once: one run where all fit, else runs that leave room for others'. Throws `invalid`/`CACHE_TOO_SMALL` where one
   * file alone exceeds the limit.
   */
  batches<T extends FileObject>(files: readonly T[]): readonly (readonly T[])[]
}
