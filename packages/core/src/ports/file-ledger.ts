/** Files of a table that its snapshots need together or not at all. */
export interface FileGroup {
  readonly paths: readonly string[]
  /** They are needed as long as the table has a snapshot with one of these manifest lists. */
  readonly manifestLists: readonly string[]
}

/** Keeps account of files that may be in no snapshot, so that what a failed commit or a crash leaves behind is found and removed. */
export interface FileLedger {
  /** These are about to be written, or to lose the last snapshot that needs them. It is written down when this resolves; throws where it can't be, and then they must not be. */
  list(group: FileGroup): Promise<void>
  /** These are gone. */
  removed(paths: readonly string[]): Promise<void>
}
