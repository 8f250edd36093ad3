/** A file on local disk that stays there until released. */
export interface PinnedFile {
  readonly path: string
  release(): void
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
