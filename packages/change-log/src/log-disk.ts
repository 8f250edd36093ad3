/** A segment in the making. Its bytes may be lost, wholly or in parts, until `sync` resolves. */
export interface LogFile {
  /** Appends; the bytes must not change before it resolves. */
  write(bytes: Uint8Array): Promise<void>
  /** What was written, and the name, survive a crash when it resolves. After it failed nothing is known of what was written since the last. */
  sync(): Promise<void>
  /** Lets go; what was not synced may be lost. */
  close(): Promise<void>
}

/** Where segments are kept: files of one flat name space, written once from front to back. */
export interface LogDisk {
  /** Whether a file can be written on after a sync. */
  readonly canAppend: boolean
  /** How many files are worth reading at a time. */
  readonly readsAtOnce: number
  /** How many bytes more it took when a file was made or written last; null where it does not say. */
  readonly roomBytes: number | null
  /** Names of the files. */
  list(): Promise<readonly string[]>
  /** All that a file holds. It may be kept for the next call where it is read `again`. */
  read(name: string, again?: boolean): Promise<Buffer>
  /** Throws `conflict`/`LOG_SEGMENT_EXISTS` where the name is taken, at the latest when it is synced. */
  create(name: string): Promise<LogFile>
  /** What a file holds, and its name, survive a crash when it resolves: whoever wrote it, and may not have come to that, or have tried and failed. Nobody has it open. */
  sync(name: string): Promise<void>
  /** Fine if it is not there. */
  remove(name: string): Promise<void>
  /** The file for people: a path or URI. */
  locate(name: string): string
}
