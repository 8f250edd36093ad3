import type { TableName } from '@moonlink/core'
import type { MirroredTable } from './mirrored-table.ts'

/** Behind the prefix of a message about schema changes: the transaction may have taken the change back. */
export const DOUBTFUL_SUFFIX = '?'

/**
 * What a message about schema changes does to one mirrored table, from its place within the transaction on.
 * - `reshape`: its rows are as `mirrored` says. `stale`: why rows from before do not show what the source shows, or null where they do.
 * - `stale`: rows of it went or came that are not streamed. Nothing, where the transaction has emptied it and added no row since.
 * - `refuse`: it can't be followed any more. `isLate`: for what may have happened before the transaction, and was not told then.
 */
export type TableAlteration =
  | { readonly kind: 'reshape'; readonly mirrored: MirroredTable; readonly stale: string | null }
  | { readonly kind: 'stale'; readonly mirrored: MirroredTable; readonly reason: string }
  | { readonly kind: 'refuse'; readonly table: TableName; readonly code: string; readonly reason: string; readonly isLate?: boolean }

/** Reads messages about schema changes, which Moonlink's event triggers write. */
export interface AlterationReader {
  /** Of the logical messages that are about schema changes. */
  readonly prefix: string
  /**
   * What a message does to mirrored tables, save those that `skips` names: they have it already. `isDoubtful`: the transaction may have taken the
   * change back, which the server does not tell.
   */
  read(content: string, skips: (table: TableName) => boolean, isDoubtful: boolean): readonly TableAlteration[]
}
