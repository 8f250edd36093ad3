import { MoonlinkError, type LocalFiles } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import type { QueryEngine } from './parts.ts'

/** SQL over the engine's union reads. */
export async function openQueryEngine(_config: Config, _engine: Engine, _files: LocalFiles): Promise<QueryEngine> {
  return {
    query: async () => {
      throw new MoonlinkError('bug', 'NOT_BUILT', 'SQL is not built yet')
    },
    close: async () => undefined,
  }
}
