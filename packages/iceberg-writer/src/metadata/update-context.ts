import { MoonlinkError } from '@moonlink/core'

/** What the updates of one commit share. */
export interface UpdateContext {
  /** Wall clock of the commit, never before the table's last change. */
  readonly nowMs: number
  /** Ids that -1 ("the last one added") stands for. */
  lastSchemaId: number | null
  lastSpecId: number | null
  lastSortOrderId: number | null
}

export function invalidUpdate(why: string): MoonlinkError {
  return new MoonlinkError('invalid', 'UPDATE_INVALID', `table update refused: ${why}.`)
}
