import type { TableShape } from '@moonlink/core'
import { MemoryKeyIndex, type SealedKeyIndex } from '@moonlink/pk-index'
import { identityOf, keysOf, type Identity } from './identity.ts'
import type { MirrorState } from './mirror-state.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { FileSegment, MemorySegment } from './segment.ts'

/**
 * Within the open transaction: rows that come next have this shape. Where rows are identified otherwise than before, every key index is
 * made anew, of files from their data; changes of the table wait for that. Under the mirror's lock. Throws what the storage throws;
 * nothing has changed then.
 */
export async function changeShape(state: MirrorState, shape: TableShape, sealedFiles: SealedFiles): Promise<void> {
  const identity = identityOf(shape.schema)
  if (!state.appendOnly && identity.fingerprint !== state.identity.fingerprint)
    await state.mender.with(state, () => rekey(state, identity, sealedFiles))
  state.identity = identity
  state.startShape(shape)
}

async function rekey(state: MirrorState, identity: Identity, sealedFiles: SealedFiles): Promise<void> {
  const files = new Map<FileSegment, SealedKeyIndex>()
  try {
    for (const segment of state.files()) {
      if (segment.index === null || segment.deadFrom !== null) continue
      files.set(segment, await sealedFiles.rekey(segment.file, identity, state.reads, segment.index))
    }
  } catch (error) {
    for (const index of files.values()) index.close()
    throw error
  }
  for (const [segment, index] of files) {
    segment.index!.close()
    segment.index = index
  }
  for (const segment of state.liveMemory()) segment.index = indexOf(segment, identity)
}

function indexOf(segment: MemorySegment, identity: Identity): MemoryKeyIndex {
  const { buffer, dead, id } = segment
  const hashes = identity.hasher.hash(keysOf(identity, buffer.view()), 0, buffer.rowCount)
  const index = new MemoryKeyIndex()
  for (let row = 0; row < hashes.length; row++) if (!dead.has(row)) index.insert(hashes.low[row], hashes.high[row], id, row)
  return index
}
