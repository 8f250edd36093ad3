import { isMoonlinkError, MoonlinkError } from '@moonlink/core'
import type { BackendParts } from './backend-parts.ts'
import type { SourcePosition } from './parts.ts'

const slotLossCodes: ReadonlySet<string> = new Set([
  'PG_SLOT_LOST',
  'PG_SLOT_MISSING',
  'PG_CHANGES_LOST',
  'PG_DIVERGED',
  'PG_PREPARED_LOST',
  'PG_PUBLICATION_MISSING',
])

/** Whether changes are missing, since the slot does not have them any more, or the server has another history. `SlotMender` mends that. */
export function isSlotLoss(error: Error): boolean {
  return isMoonlinkError(error) && slotLossCodes.has(error.code)
}

/** Where that ends the backend (`source.onSlotLoss: stop`). */
export function slotLossError(slot: string, reason: string): MoonlinkError {
  const message = `slot "${slot}" does not have all changes: ${reason.replace(/\.?$/, '.')} To make the tables equal to the source by comparing, start with source.onSlotLoss: resync.`
  return new MoonlinkError('invalid', 'PG_SLOT_LOST', message, { context: { slot } })
}

/** Why a slot is of no use any more; null where it is. */
export function lossOf(slot: SourcePosition['slot']): string | null {
  if (slot === null) return 'it is not there any more'
  if (slot.walStatus !== 'lost' && slot.invalidationReason === null) return null
  const reason = slot.invalidationReason ?? 'wal_removed'
  return `the server invalidated it (${reason}); max_slot_wal_keep_size and idle_replication_slot_timeout decide how long it waits`
}

/** Looks at the slot that an earlier process read, before one is made. Throws `invalid`/`PG_SLOT_LOST` where it is lost and that ends the backend. */
export async function lookAtKeptSlot({ config, source, telemetry }: Pick<BackendParts, 'config' | 'source' | 'telemetry'>): Promise<void> {
  const reason = lossOf((await source.position()).slot)
  if (reason === null) return
  if (config.source.onSlotLoss === 'stop') throw slotLossError(source.identity.slot, reason)
  telemetry.count('moonlink_slot_losses_total')
}
