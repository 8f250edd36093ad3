import type { TableSchema } from '@moonlink/core'
import type { FileScan, TablePlan } from '@moonlink/union-read'
import type { FileClusters } from './file-clusters.ts'
import { storedColumn, type FileShape } from './file-shapes.ts'

/** Each is a scan of its own, which takes a quarter of a millisecond to plan. */
const MAX_FILES = 256

/** Files of a plan on local disk. */
export interface LocalFile {
  readonly scan: FileScan
  readonly uri: string
  readonly path: string
  readonly shape: FileShape
}

/**
 * Which files of a plan to read beside a live mask. That is by far the fastest way to read all of a file, but conditions don't reach
 * it: it can be left out as a whole, not by row group. So none is, where a condition of the statement could leave out row groups.
 */
export async function maskedFiles(
  plan: TablePlan,
  files: readonly LocalFile[],
  conditions: ReadonlySet<string>,
  clusters: FileClusters,
  minRows: number,
): Promise<readonly FileScan[]> {
  const large = files.filter(({ scan }) => scan.hasDeletes && scan.recordCount >= minRows)
  if (large.length === 0 || (conditions.size > 0 && (await mayPrune(plan.schema, large, conditions, clusters)))) return []
  return large
    .map((file) => file.scan)
    .toSorted((a, b) => b.recordCount - a.recordCount)
    .slice(0, MAX_FILES)
}

/** Names of no column here may be other names of one. */
async function mayPrune(
  schema: TableSchema,
  files: readonly LocalFile[],
  conditions: ReadonlySet<string>,
  clusters: FileClusters,
): Promise<boolean> {
  const fields = schema.fields.filter((field) => conditions.has(field.name.toLowerCase()))
  const names = new Set(fields.map((field) => field.name.toLowerCase()))
  if ([...conditions].some((name) => !names.has(name))) return true
  const clustered = await clusters.of(files)
  return files.some(({ shape }, index) => fields.some((field) => clustered[index].has(storedColumn(shape, field)?.name ?? '')))
}
