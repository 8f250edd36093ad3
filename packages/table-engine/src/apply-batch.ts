import { assert, ChangeOp, selectFields, type ChangeBatch, type ColumnBatch } from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import { ChangeApplier, type BatchKeys, type Leniency } from './change-applier.ts'
import type { Identity } from './identity.ts'
import type { MirrorState } from './mirror-state.ts'
import { MemoryLookup } from './memory-lookup.ts'
import { lookUpSealed } from './sealed-lookup.ts'
import { SealedRequests } from './sealed-requests.ts'

/**
 * Applies one batch to the mirror: new rows to the growing segment, their keys to its index, replaced and deleted rows to the
 * deletion log, commit marks to both. Changes take effect in order. Runs under the mirror's lock.
 *
 * Throws `corrupt`/`DIVERGED` where a change names a row that the mirror does not have and there is no leniency; nothing of the batch may be used then.
 */
export async function applyBatch(state: MirrorState, batch: ChangeBatch, leniency: Leniency | null = null): Promise<void> {
  const { identity } = state
  assert(
    batch.unchanged.every(({ column }) => !identity.fieldIds.includes(batch.rows.fields[column].id)),
    'the source sends every cell that identifies a row',
  )
  if (state.appendOnly) {
    assert(isInsertsOnly(batch), 'an append-only table only gets inserts')
    appendInserts(state, batch, null)
  } else {
    const fresh = hashed(selectFields(batch.rows, identity.fieldIds), identity)
    if (isInsertsOnly(batch)) appendInserts(state, batch, fresh.hashes)
    else await applyChanges(state, batch, fresh, leniency)
  }
  noteMarks(state, batch)
}

async function applyChanges(state: MirrorState, batch: ChangeBatch, fresh: BatchKeys, leniency: Leniency | null): Promise<void> {
  const { identity } = state
  const old = hashed(batch.old.length > 0 ? selectFields(batch.old, identity.fieldIds) : batch.old, identity)
  const requests = sealedRequests(state, batch, fresh, old)
  const sealed = await lookUpSealed(state, requests, batch.ops.length, leniency !== null)
  await new ChangeApplier(state, batch, fresh, old, sealed, leniency).run()
}

function hashed(keys: ColumnBatch, { hasher }: Identity): BatchKeys {
  return { keys, hashes: hasher.hash(keys, 0, keys.length) }
}

function isInsertsOnly(batch: ChangeBatch): boolean {
  return batch.rows.length === batch.ops.length && batch.ops.every((op) => op === ChangeOp.insert)
}

function appendInserts(state: MirrorState, batch: ChangeBatch, hashes: KeyHashes | null): void {
  const { tail } = state
  const first = tail.buffer.append(batch.rows)
  if (hashes) tail.index.insertBatch(hashes, 0, batch.rows.length, tail.id, first)
  state.liveRows += batch.rows.length
  const { endLsns, changeCounts } = batch.marks
  for (let index = 0; index < endLsns.length; index++) tail.buffer.mark(endLsns[index], first + changeCounts[index])
  // Earlier batches may have brought the beginning of the transaction that ends first here.
  if (endLsns.length > 0) state.endTransaction(endLsns[0])
}

/** Bookkeeping that every batch needs, whatever its changes. */
function noteMarks(state: MirrorState, batch: ChangeBatch): void {
  const { endLsns, changeCounts, commitTimesMs } = batch.marks
  const last = endLsns.length - 1
  if (last >= 0) {
    state.firstUncommittedLsn ??= endLsns[0]
    state.lastMarkLsn = endLsns[last]!
    state.lastCommitTimeMs = commitTimesMs[last]!
    state.openChanges = batch.ops.length - changeCounts[last]
  } else state.openChanges += batch.ops.length
}

/** Keys whose rows may be in files. */
function sealedRequests(state: MirrorState, batch: ChangeBatch, fresh: BatchKeys, old: BatchKeys): SealedRequests {
  const requests = new SealedRequests(batch.ops.length, fresh.keys, old.keys)
  const memory = new MemoryLookup(state, null)
  const { keyless } = state.identity
  let row = 0
  let oldRow = 0
  for (let change = 0; change < batch.ops.length; change++) {
    const op = batch.ops[change]
    const byOld = op === ChangeOp.updateOld || op === ChangeOp.delete
    if (byOld || op === ChangeOp.update) {
      const { hashes, keys } = byOld ? old : fresh
      const keyRow = byOld ? oldRow : row
      // A key that is in memory now is in no file. Of equal rows without a key, any may be.
      const inMemory = !keyless && memory.find(hashes.low[keyRow], hashes.high[keyRow], keys, keyRow)
      if (!inMemory) requests.push(change, hashes, keyRow, byOld, op !== ChangeOp.delete)
    }
    if (op !== ChangeOp.delete) row++
    if (byOld) oldRow++
  }
  return requests
}
