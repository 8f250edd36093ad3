import { isMoonlinkError } from '@moonlink/core'

const slotLossCodes: ReadonlySet<string> = new Set([
  'PG_SLOT_LOST',
  'PG_SLOT_MISSING',
  'PG_CHANGES_LOST',
  'PG_DIVERGED',
  'PG_PUBLICATION_MISSING',
])

/** Whether changes are missing, since the slot does not have them any more, or the server has another history. `SlotMender` mends that. */
export function isSlotLoss(error: Error): boolean {
  return isMoonlinkError(error) && slotLossCodes.has(error.code)
}
