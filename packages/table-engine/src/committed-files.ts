import { MoonlinkError, type DataFile } from '@moonlink/core'
import type { SealedKeyIndex } from '@moonlink/pk-index'
import type { Identity } from './identity.ts'
import type { MirrorCore } from './mirror-core.ts'
import type { FileSegment } from './segment.ts'

/** The sealed indexes of files that a commit brought, by the key that rows had when they were opened. */
export interface OpenedIndexes {
  readonly identity: Identity
  readonly indexes: readonly (SealedKeyIndex | null)[]
}

/** Opens the indexes of the files at `paths`, which are among `files`, those of a snapshot. */
export async function openIndexes(core: MirrorCore, paths: readonly string[], files: readonly DataFile[]): Promise<OpenedIndexes> {
  const { identity, appendOnly } = core.state
  if (appendOnly) return { identity, indexes: paths.map(() => null) }
  const opening = paths.map((path) => {
    const file = files.find((candidate) => candidate.path === path)
    if (!file) throw new MoonlinkError('bug', 'FILE_NOT_COMMITTED', `${core.name}: ${path} is not in the snapshot that committed it`)
    return core.host.sealedFiles.openOrRebuild(file, identity, core.spec.storage)
  })
  return { identity, indexes: await Promise.all(opening) }
}

/** The indexes by the key that rows have now: it may have changed while a commit was made. Under the lock. */
export async function indexesNow(
  core: MirrorCore,
  opened: OpenedIndexes,
  paths: readonly string[],
  files: readonly DataFile[],
): Promise<readonly (SealedKeyIndex | null)[]> {
  if (opened.identity.fingerprint === core.state.identity.fingerprint) return opened.indexes
  for (const index of opened.indexes) index?.close()
  return (await openIndexes(core, paths, files)).indexes
}

/** Frees what segments held that are no longer among those of the state. */
export async function letGoOf(core: MirrorCore, files: readonly FileSegment[]): Promise<void> {
  for (const { index, dead, file } of files) {
    index?.close()
    dead.dispose()
    await core.host.sealedFiles.remove(file.path, core.state.identity)
  }
}
