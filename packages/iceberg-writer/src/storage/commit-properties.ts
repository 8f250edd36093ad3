import { isMoonlinkError, type LoadedTable } from '@moonlink/core'
import { textOf } from '../metadata/fields.ts'
import type { Committer } from './storage-parts.ts'

const ATTEMPTS_MAX = 6
const BACKOFF_MS = 100

/** Sets table properties. Setting them twice is as good as once, so a lost race or an unknown outcome is simply tried again. */
export async function commitProperties(
  committer: Committer,
  base: LoadedTable,
  properties: Readonly<Record<string, string>>,
): Promise<LoadedTable> {
  const requirements = [{ type: 'assert-table-uuid', uuid: textOf(base.metadata, 'table-uuid') }]
  const updates = [{ action: 'set-properties', updates: properties }]
  for (let attempt = 1; ; attempt++) {
    try {
      return await committer.catalog.commit(committer.identifier, requirements, updates)
    } catch (error) {
      const mayPass = isMoonlinkError(error, 'retry') || isMoonlinkError(error, 'conflict')
      if (!mayPass || attempt >= ATTEMPTS_MAX) throw error
      await committer.clock.sleep(BACKOFF_MS * 2 ** (attempt - 1))
    }
  }
}
