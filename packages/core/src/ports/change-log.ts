import type { Lsn } from '../lsn.ts'

/** The unbroken run of transactions that a log has: every one that ends after `startLsn`, through `endLsn`. */
export interface LogRange {
  readonly startLsn: Lsn
  readonly endLsn: Lsn
}

/** What a replay gives, in order. The memory of `bytes` is valid until the next entry is taken. */
export type LogEntry =
  /** State of the source's decoder, as it was before the frames that follow. */
  | { readonly kind: 'state'; readonly bytes: Uint8Array }
  /** A new session with the source begins here: what was open before will not be continued. */
  | { readonly kind: 'session' }
  /** A run of whole frames. */
  | { readonly kind: 'frames'; readonly bytes: Uint8Array }

/** How a log is now. */
export interface LogStatus {
  readonly range: LogRange | null
  /** Bytes on disk or in the store, and still to be written. */
  readonly byteSize: number
  /** At this size the log stops: its bound, or as much as its disk had room for when something was written last. */
  readonly maxBytes: number
  /** Why nothing is being logged; null while it is. */
  readonly trouble: string | null
}

/**
 * A durable log of the frames that a source sent, so that the source may forget them before they are in Iceberg. Frames are opaque: whoever
 * appends them decodes them again. One writer, one session at a time.
 *
 * A log that can't go on (its bound is reached, its disk fails) stops: it keeps what it has, drops what is appended, and says so in
 * `status`. Nothing is lost by that, since the source keeps what is not acknowledged. It begins anew by itself once `prune` has told that
 * nothing it holds is needed any more.
 *
 * Not promised: that what was appended is durable before `durableLsn` says so.
 */
export interface ChangeLog {
  readonly status: LogStatus
  /**
   * Every transaction up to here survives a crash, here or in Iceberg: the source may forget it. Null while the log does not reach back to
   * what Iceberg has, as `prune` told.
   */
  readonly durableLsn: Lsn | null
  /** Calls `listener` whenever `durableLsn` may have grown. */
  onDurable(listener: () => void): void
  /** What was appended waits to be written and is more than should wait: append no more until `drained`. */
  readonly isBehind: boolean
  /** Resolves when the log is not behind any more, be it that it stopped. */
  drained(): Promise<void>
  /** Writes what was appended. What it could not write, the log has dropped when this resolves. */
  sync(): Promise<void>
  /**
   * What the log has, from the last place at or before `after` where a reader can begin: so transactions that end at or before `after` may be among it.
   * None that never ended. Call `sync` before; nothing may be appended meanwhile.
   */
  replay(after: Lsn): AsyncIterable<LogEntry>
  /**
   * Begins a session: what is appended from now on came from the source after `at`. Where `at` is not the log's end, the log begins anew there, or
   * stops where something it has is still needed. Where the session before is still beginning, this one follows it. `state` gives the decoder's state at the moment it is called. Throws `fenced` where another writer has
   * taken over the log.
   */
  begin(at: Lsn, state: () => Uint8Array): Promise<void>
  /**
   * Appends a run of whole frames; returns at once, with a copy of the bytes. `endLsn`: with it, every transaction that ends at or before that LSN
   * is in the log; null where the last frame lies within a transaction. `isCut`: no transaction at all is open after it, so a reader may begin here.
   * Throws `fenced` where another writer has taken over the log.
   */
  append(frames: Uint8Array, endLsn: Lsn | null, isCut: boolean): void
  /** Whether `prune(through)` would change anything. */
  isPrunable(through: Lsn): boolean
  /** Everything up to `through` is safe elsewhere. Removes what is not needed any more, soon. */
  prune(through: Lsn): void
  /** Writes what was appended, and lets go. */
  close(): Promise<void>
}
