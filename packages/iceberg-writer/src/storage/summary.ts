import type { CommitRequest } from './storage-parts.ts'
import type { CommitPlan, StagedVector } from './plan-commit.ts'
import type { TableState } from './table-state.ts'

/** Snapshot summary per the Iceberg spec ("Optional Snapshot Summary Fields"), every value as text. */
export function summarize(
  before: TableState,
  after: TableState,
  commit: CommitRequest,
  vectors: readonly StagedVector[],
  plan: CommitPlan,
): Record<string, string> {
  const removedFiles = commit.removeFiles.map((path) => before.files.get(path)!)
  const gone = new Set([...commit.removeFiles, ...vectors.map((vector) => vector.dataFile)])
  const removedVectors = [...gone].flatMap((path) => before.vectors.get(path)?.entry.file ?? [])
  const vectorBytes = sum(removedVectors, (file) => file.contentSizeBytes ?? 0)
  const counts: Record<string, number> = {
    'added-data-files': commit.addFiles.length,
    'deleted-data-files': removedFiles.length,
    'added-records': sum(commit.addFiles, (file) => file.recordCount),
    'deleted-records': sum(removedFiles, (file) => file.recordCount),
    'added-delete-files': vectors.length,
    'removed-delete-files': removedVectors.length,
    'added-dvs': vectors.length,
    'removed-dvs': removedVectors.length,
    'added-position-deletes': sum(vectors, (vector) => vector.cardinality),
    'removed-position-deletes': sum(removedVectors, (file) => file.recordCount),
    'added-files-size': sum(commit.addFiles, (file) => file.sizeBytes) + sum(vectors, (vector) => vector.length),
    'removed-files-size': sum(removedFiles, (file) => file.sizeBytes) + vectorBytes,
    'manifests-created': plan.added.length,
    'manifests-kept': plan.kept.length,
    'manifests-replaced': plan.replacedCount,
  }
  const summary: Record<string, string> = {}
  for (const [key, value] of Object.entries(counts)) if (value > 0 || key.startsWith('manifests-')) summary[key] = String(value)
  const isChanged = commit.addFiles.length + removedFiles.length + vectors.length > 0
  return { operation: operationOf(commit), ...summary, 'changed-partition-count': isChanged ? '1' : '0', ...totals(after) }
}

function totals(state: TableState): Record<string, string> {
  let records = 0
  let bytes = 0
  let deletes = 0
  for (const file of state.files.values()) {
    records += file.recordCount
    bytes += file.sizeBytes
  }
  for (const { entry } of state.vectors.values()) {
    deletes += entry.file.recordCount
    bytes += entry.file.contentSizeBytes ?? 0
  }
  return {
    'total-data-files': String(state.files.size),
    'total-delete-files': String(state.vectors.size),
    'total-records': String(records),
    'total-files-size': String(bytes),
    'total-position-deletes': String(deletes),
    'total-equality-deletes': '0',
  }
}

/** `replace` only where the rows really are the same: vectors then lie on the new files alone. */
function operationOf(commit: CommitRequest): 'append' | 'overwrite' | 'delete' | 'replace' {
  const adds = commit.addFiles.length > 0
  const removes = commit.removeFiles.length > 0
  if (commit.kind === 'replace' && removes) {
    const added = new Set(commit.addFiles.map((file) => file.path))
    if (commit.vectors.every((vector) => added.has(vector.dataFile))) return 'replace'
  }
  if (!removes && commit.vectors.length === 0) return 'append'
  return adds ? 'overwrite' : 'delete'
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}
