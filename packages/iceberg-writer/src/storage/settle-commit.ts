import { isMoonlinkError } from '@moonlink/core'
import { committedLsn, committedStamp, committedTimeline } from '../metadata/committed-lsn.ts'
import { commitSnapshot, hasAncestor, newSnapshotId, reload, settle } from './commit-snapshot.ts'
import { checkRebase, type Head } from './foreign-changes.ts'
import type { CommitRequest, Committer } from './storage-parts.ts'

/** The commit may land between the look for it and the snapshot that keeps it out; then it is found by the next look. */
const ATTEMPTS_MAX = 3

export interface Settled {
  readonly head: Head
  /** Whether the commit is in the table. */
  readonly isIn: boolean
}

/**
 * Makes certain what came of a commit planned on `base` whose outcome is unknown. Where it has not landed, an empty snapshot takes the place that it was planned for:
 * the requirement that `main` is there keeps it out from then on, however late it comes. Throws as `commitSnapshot`.
 */
export async function settleCommit(committer: Committer, base: Head, snapshotId: bigint): Promise<Settled> {
  for (let attempt = 1; ; attempt++) {
    const head = await reload(committer, base)
    if (hasAncestor(head, snapshotId)) return { head: await settle(committer, head, snapshotId), isIn: true }
    checkRebase(base, head, committer.writerId, committer.name)
    try {
      const id = newSnapshotId(committer.random, head.table.metadata)
      return { head: await commitSnapshot(committer, head, emptyCommit(head), id), isIn: false }
    } catch (error) {
      const cameBetween = isMoonlinkError(error, 'conflict') && error.code === 'EARLIER_COMMIT_LANDED'
      if (!cameBetween || attempt === ATTEMPTS_MAX) throw error
    }
  }
}

/** A snapshot that changes nothing and has no LSN. */
export function unmarkedCommit(properties: Readonly<Record<string, string>>): CommitRequest {
  return { kind: 'append', addFiles: [], removeFiles: [], vectors: [], lsn: null, sourceTimeline: null, properties }
}

/** A snapshot that changes nothing, exact where the one before it is. */
export function emptyCommit({ state, table }: Head): CommitRequest {
  const lastChangeLsn = committedStamp(table.metadata, state.snapshotId)?.lastChangeLsn
  const lastChange = lastChangeLsn == null ? {} : { lastChangeLsn }
  const lsn = committedLsn(table.metadata, state.snapshotId)
  const sourceTimeline = committedTimeline(table.metadata, state.snapshotId)
  return { kind: 'append', addFiles: [], removeFiles: [], vectors: [], lsn, sourceTimeline, ...lastChange }
}
