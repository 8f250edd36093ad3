import type { JsonValue, Lsn } from '@moonlink/core'

/** A running query. It holds what it reads until `close`. */
export interface RunningQuery {
  readonly lsn: Lsn | null
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  /** Chunks of rows; integers that a number would change are bigints. */
  readonly rows: AsyncIterable<readonly (readonly JsonValue[])[]>
  /** Ends it, whether or not all was read. Fine to call again. */
  close(): void
}
