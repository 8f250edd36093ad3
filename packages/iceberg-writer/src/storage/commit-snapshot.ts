import { isMoonlinkError, MoonlinkError, formatLsn, type JsonObject, type LoadedTable, type ObjectStore, type Random } from '@moonlink/core'
import { PROPERTY_LSN, PROPERTY_SNAPSHOT } from '../metadata/committed-lsn.ts'
import { longOf, longToJson, numberOf, objectsOf, textOf } from '../metadata/fields.ts'
import { refSnapshotId } from '../metadata/requirements.ts'
import { schemaUpdate, type SchemaUpdate } from '../metadata/schema-updates.ts'
import { ancestors } from '../metadata/snapshot-updates.ts'
import { checkRebase, checkSameTable, type Head } from './foreign-changes.ts'
import { loadState } from './load-state.ts'
import { planCommit } from './plan-commit.ts'
import { stageVectors, type StagedVectors } from './stage-vectors.ts'
import type { CommitRequest, Committer } from './storage-parts.ts'
import { currentSchemaJson, directoriesOf } from './table-state.ts'
import { writeSnapshot, type WrittenSnapshot } from './write-snapshot.ts'

const ATTEMPTS_MAX = 6
const BACKOFF_MS = 100

/**
 * Makes one commit the table's current snapshot and returns the new head.
 *
 * The snapshot id is the commit's own, be it tried again by another call. After a failed requirement or an unknown outcome the table is loaded again: where an ancestor of
 * `main` has our id the commit happened; else it is planned anew on the head, if that left our files alone (`checkRebase`). Every
 * attempt requires that `main` is where it was planned, so no two of them can both land. Throws `retry` where one may still have.
 */
export async function commitSnapshot(committer: Committer, base: Head, commit: CommitRequest, snapshotId: bigint): Promise<Head> {
  const doubt = { isUnknown: false }
  try {
    return await commitAttempts(committer, base, commit, snapshotId, doubt)
  } catch (error) {
    const isRefusal = isMoonlinkError(error, 'invalid') || (isMoonlinkError(error) && error.code === 'COMMIT_CONFLICT')
    if (!doubt.isUnknown || !isRefusal) throw error
    const message = `a commit to Iceberg table ${committer.name} may have happened, and could not be tried again: ${error.message}`
    throw new MoonlinkError('retry', 'COMMIT_UNKNOWN', message, { cause: error })
  }
}

async function commitAttempts(
  committer: Committer,
  base: Head,
  commit: CommitRequest,
  snapshotId: bigint,
  doubt: { isUnknown: boolean },
): Promise<Head> {
  const staged = stageVectors(committer.random, directoriesOf(base.table).data, commit.vectors)
  let head = base
  for (let attempt = 1; ; attempt++) {
    const written = await writeAttempt(committer, head, commit, staged, snapshotId, attempt === 1)
    try {
      return await postAttempt(committer, head, commit, written, snapshotId)
    } catch (error) {
      doubt.isUnknown ||= isMoonlinkError(error, 'retry')
      if (!mayTryAgain(error) || attempt >= ATTEMPTS_MAX) throw error
      committer.logger.warn('commit is tried again', { table: committer.name, attempt, error: error.message })
      if (error.kind === 'retry') await committer.clock.sleep(BACKOFF_MS * 2 ** (attempt - 1))
      const landed = await reload(committer, head)
      if (hasAncestor(landed, snapshotId)) return settle(committer, landed, snapshotId)
      if (error.kind === 'conflict') await discard(committer.store, written.written)
      checkRebase(base, landed, committer.writerId, committer.name)
      head = landed
    }
  }
}

/** What loading the table again will settle, be it that the table is gone. */
function mayTryAgain(error: unknown): error is MoonlinkError {
  return isMoonlinkError(error, 'retry') || (isMoonlinkError(error) && ['COMMIT_CONFLICT', 'TABLE_NOT_FOUND'].includes(error.code))
}

async function writeAttempt(
  committer: Committer,
  head: Head,
  commit: CommitRequest,
  { files, vectors }: StagedVectors,
  snapshotId: bigint,
  isFirst: boolean,
): Promise<WrittenSnapshot> {
  const plan = planCommit(head.state, commit, vectors, snapshotId, committer.manifestLimits)
  const schema = newSchema(head, commit)?.schema ?? currentSchemaJson(head.table.metadata)
  const shared = files.map(({ path }) => path)
  const unwritten = isFirst ? files : []
  return writeSnapshot(committer, { table: head.table, before: head.state, commit, vectors, plan, snapshotId, schema, shared, unwritten })
}

/** How the commit changes the schema of this head; null where it does not. */
function newSchema(head: Head, commit: CommitRequest): SchemaUpdate | null {
  return commit.schema === undefined ? null : schemaUpdate(head.table.metadata, commit.schema)
}

async function postAttempt(
  committer: Committer,
  head: Head,
  commit: CommitRequest,
  written: WrittenSnapshot,
  snapshotId: bigint,
): Promise<Head> {
  const parent = head.state.snapshotId
  const id = longToJson(snapshotId)
  const requirements: JsonObject[] = [
    { type: 'assert-table-uuid', uuid: textOf(head.table.metadata, 'table-uuid') },
    { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': parent === null ? null : longToJson(parent) },
    { type: 'assert-current-schema-id', 'current-schema-id': numberOf(head.table.metadata, 'current-schema-id') },
  ]
  const marks = commit.lsn === null ? {} : { [PROPERTY_LSN]: formatLsn(commit.lsn), [PROPERTY_SNAPSHOT]: String(snapshotId) }
  const properties = { ...commit.properties, ...marks }
  const updates: JsonObject[] = [
    ...(newSchema(head, commit)?.updates ?? []),
    { action: 'add-snapshot', snapshot: written.snapshot },
    { action: 'set-snapshot-ref', 'ref-name': 'main', type: 'branch', 'snapshot-id': id },
    ...(Object.keys(properties).length === 0 ? [] : [{ action: 'set-properties', updates: properties }]),
  ]
  const table = await committer.catalog.commit(committer.identifier, requirements, updates)
  // A catalog may answer with a later state of the table; then ours is what that state was built on.
  if (refSnapshotId(table.metadata, 'main') === snapshotId) return { table, state: written.after }
  return settle(committer, await reload(committer, head), snapshotId)
}

/** The head after our commit landed and others came after it: good only where they left our files alone. */
export async function settle(committer: Committer, landed: Head, snapshotId: bigint): Promise<Head> {
  if (landed.state.snapshotId === snapshotId) return landed
  const state = await loadState(committer.store, landed.table.metadata, snapshotId, landed.state)
  checkRebase({ table: landed.table, state }, landed, committer.writerId, committer.name)
  return landed
}

export async function reload(committer: Committer, known: Head): Promise<Head> {
  const table: LoadedTable | null = await committer.catalog.load(committer.identifier)
  checkSameTable(known.table, table, committer.name)
  const state = await loadState(committer.store, table.metadata, refSnapshotId(table.metadata, 'main'), known.state)
  return { table, state }
}

export function hasAncestor(head: Head, snapshotId: bigint): boolean {
  return ancestors(head.table.metadata, head.state.snapshotId).some((snapshot) => longOf(snapshot, 'snapshot-id') === snapshotId)
}

/** Files of an attempt that certainly did not land; leaving one behind does no harm. */
async function discard(store: ObjectStore, paths: readonly string[]): Promise<void> {
  for (const path of paths) await store.delete(path).catch(() => {})
}

/** A random positive 63-bit id that the table does not have. */
export function newSnapshotId(random: Random, metadata: JsonObject): bigint {
  const taken = new Set(objectsOf(metadata, 'snapshots').map((snapshot) => longOf(snapshot, 'snapshot-id')))
  for (;;) {
    const bytes = random.bytes(8)
    const id = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0) & 0x7fff_ffff_ffff_ffffn
    if (id > 0n && !taken.has(id)) return id
  }
}
