import { isMoonlinkError, type JsonObject, type LoadedTable, type TableSchema } from '@moonlink/core'
import { longToJson, textOf } from '../metadata/fields.ts'
import { refSnapshotId } from '../metadata/requirements.ts'
import { schemaUpdate } from '../metadata/schema-updates.ts'
import { checkNotFenced, checkSameTable } from './foreign-changes.ts'
import type { Committer } from './storage-parts.ts'

const ATTEMPTS_MAX = 6
const BACKOFF_MS = 100

/**
 * Sets table properties, and the schema where one is given. Setting them twice is as good as once, so an unknown outcome is simply tried again; but only on a table whose snapshots since `base` are no other
 * mirror's. Throws `fenced`/`OTHER_MIRROR` where one is.
 */
export async function commitProperties(
  committer: Committer,
  base: LoadedTable,
  properties: Readonly<Record<string, string>>,
  schema?: TableSchema,
): Promise<LoadedTable> {
  let head = base
  for (let attempt = 1; ; attempt++) {
    const reshaping = schema === undefined ? [] : (schemaUpdate(head.metadata, schema)?.updates ?? [])
    const updates = [...reshaping, { action: 'set-properties', updates: properties }]
    try {
      return await committer.catalog.commit(committer.identifier, unchanged(head), updates)
    } catch (error) {
      const mayPass = isMoonlinkError(error, 'retry') || isMoonlinkError(error, 'conflict')
      if (!mayPass || attempt >= ATTEMPTS_MAX) throw error
      await committer.clock.sleep(BACKOFF_MS * 2 ** (attempt - 1))
      if (!isMoonlinkError(error, 'conflict')) continue
      const loaded = await committer.catalog.load(committer.identifier)
      checkSameTable(base, loaded, committer.name)
      checkNotFenced(base, loaded, committer.writerId, committer.name)
      head = loaded
    }
  }
}

/** Whoever takes the table over begins with a snapshot of its own. */
function unchanged({ metadata }: LoadedTable): JsonObject[] {
  const main = refSnapshotId(metadata, 'main')
  return [
    { type: 'assert-table-uuid', uuid: textOf(metadata, 'table-uuid') },
    { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': main === null ? null : longToJson(main) },
  ]
}
