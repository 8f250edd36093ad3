import { MoonlinkError, type DataFile } from '@moonlink/core'
import type { Identity } from './identity.ts'
import type { Indexed } from './index-mender.ts'
import type { MirrorCore } from './mirror-core.ts'
import type { FileSegment } from './segment.ts'

/** Files that a commit brought, with their sealed indexes, by the key that rows had when those were opened. */
export interface OpenedFiles {
  readonly identity: Identity
  readonly files: readonly Indexed[]
}

/** Opens the indexes of the files at `paths`, which are among `files`, those of a snapshot. */
export async function openIndexes(core: MirrorCore, paths: readonly string[], files: readonly DataFile[]): Promise<OpenedFiles> {
  const { identity, appendOnly } = core.state
  const opening = paths.map(async (path) => {
    const file = files.find((candidate) => candidate.path === path)
    if (!file) throw new MoonlinkError('bug', 'FILE_NOT_COMMITTED', `${core.name}: ${path} is not in the snapshot that committed it`)
    return { file, index: appendOnly ? null : await core.host.sealedFiles.openOrRebuild(file, identity, core.spec.storage) }
  })
  return { identity, files: await Promise.all(opening) }
}

/** The indexes by the key that rows have now: it may have changed while a commit was made. Under the lock. */
export async function indexesNow(
  core: MirrorCore,
  opened: OpenedFiles,
  paths: readonly string[],
  files: readonly DataFile[],
): Promise<readonly Indexed[]> {
  if (opened.identity.fingerprint === core.state.identity.fingerprint) return opened.files
  for (const { index } of opened.files) index?.close()
  return (await openIndexes(core, paths, files)).files
}

/** Frees what segments held that are no longer among those of the state. */
export async function letGoOf(core: MirrorCore, files: readonly FileSegment[]): Promise<void> {
  for (const { index, dead, file } of files) {
    index?.close()
    dead.dispose()
    await core.host.sealedFiles.remove(file.path, core.state.identity)
  }
}
