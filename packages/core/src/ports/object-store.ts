/** A byte range: `length` bytes from `offset`, or the last `length` bytes where `offset` is null. */
export interface ByteRange {
  readonly offset: number | null
  readonly length: number
}

/** What is known of an object without reading it. `size` is in bytes. */
export interface ObjectMeta {
  readonly uri: string
  readonly size: number
  /** Milliseconds since 1970. */
  readonly modifiedMs: number
}

/** What an object holds: one run of bytes, or several one behind the other. */
export type ObjectBytes = Uint8Array | readonly Uint8Array[]

/** Of all pieces together. */
export function byteLength(bytes: ObjectBytes): number {
  return bytes instanceof Uint8Array ? bytes.length : bytes.reduce((size, part) => size + part.length, 0)
}

/** The bytes in one piece; shares memory where they are. */
export function joinBytes(bytes: ObjectBytes): Uint8Array {
  if (bytes instanceof Uint8Array) return bytes
  const joined = new Uint8Array(byteLength(bytes))
  let at = 0
  for (const part of bytes) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}

/**
 * Objects by absolute URI (`file:///…`, `s3://bucket/…`). A store serves the URIs of one scheme (and, for S3, one endpoint).
 *
 * Errors: `invalid`/`OBJECT_NOT_FOUND` for an object that is not there; `retry` for what may pass (after the store's own retries);
 * `invalid` with the remedy for permissions, a read-only or a full disk.
 * Not promised: that `list` sees an object while it is being put; any order of `list`; atomicity over several objects; that a write which
 * threw `retry` did nothing (it may have happened, or still happen).
 */
export interface ObjectStore {
  /**
   * The whole object or a range of it, in bytes that are the caller's own. A range past the end gives what there is, one of no length no bytes. Rejects with
   * the signal's reason where that is aborted, before or meanwhile.
   */
  get(uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array>
  /** Size and time, or null where there is no such object. */
  head(uri: string): Promise<ObjectMeta | null>
  /** Writes the object, replacing another; durable (on disk: fsynced, renamed into place) when it resolves; `bytes` are the caller's again then. All or nothing. */
  put(uri: string, bytes: ObjectBytes): Promise<void>
  /** Like `put`, but only where no such object exists. Of several callers at once exactly one gets `created`. */
  putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'>
  /** Every object whose URI starts with `prefix` (a directory ends with `/`), recursively. */
  list(prefix: string): AsyncIterable<ObjectMeta>
  /** Removes the object; fine if it is not there. */
  delete(uri: string): Promise<void>
}
