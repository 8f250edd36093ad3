import { BatchBuilder } from '@moonlink/core'
import type { MirrorCore } from './mirror-core.ts'

/** Writes a file of no rows for the table, and reads a row that it has. Throws what is refused of that. Among the jobs. */
export async function tryStorage({ host, spec, staged, state }: MirrorCore): Promise<void> {
  const { storage } = spec
  const rows = new BatchBuilder(state.schema.fields).view()
  const { path } = await staged.write((onPath) => storage.writeFile({ rows, rowIds: null, lastUpdated: null }, onPath))
  staged.abandon([path])
  await staged.removeAbandoned(host.leasedPaths())
  const file = storage.snapshot.files.find(({ recordCount }) => recordCount > 0)
  if (file !== undefined) await storage.fetchRows(file, Uint32Array.of(0), state.schema.fields)
}
