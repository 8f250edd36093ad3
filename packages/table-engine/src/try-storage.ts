import { BatchBuilder } from '@moonlink/core'
import type { MirrorCore } from './mirror-core.ts'

/** Writes a file of no rows for the table, and reads that and a row that it has. Throws what is refused of that. Among the jobs. */
export async function tryStorage({ host, spec, staged, state }: MirrorCore): Promise<void> {
  const { storage } = spec
  const rows = new BatchBuilder(state.schema.fields).view()
  const { path, recordCount, sizeBytes } = await staged.write((onPath) =>
    storage.writeFile({ rows, rowIds: null, lastUpdated: null }, onPath),
  )
  try {
    // Of others there may be copies here.
    const written = { path, recordCount, sizeBytes, firstRowId: -1, dataSequenceNumber: -1 }
    for await (const _ of storage.scanFile(written, state.schema.fields));
  } finally {
    staged.abandon([path])
    await staged.removeAbandoned(host.leasedPaths())
  }
  const file = storage.snapshot.files.find(({ recordCount }) => recordCount > 0)
  if (file !== undefined) await storage.fetchRows(file, Uint32Array.of(0), state.schema.fields)
}
