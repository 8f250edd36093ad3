import { BatchBuilder, type ChangeBatch } from '@moonlink/core'
import type { MirrorState } from './mirror-state.ts'

/** No changes, within the open transaction, to be given some. */
export function emptyBatch({ table, schema, identity }: MirrorState): ChangeBatch {
  return {
    table,
    ops: new Uint8Array(0),
    rows: new BatchBuilder(schema.fields).view(),
    old: new BatchBuilder(identity.fields).view(),
    unchanged: [],
    marks: { endLsns: [], changeCounts: [], commitTimesMs: [] },
  }
}
