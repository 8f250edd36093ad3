import { MoonlinkError, type LocalFiles } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import type { QueryEngine } from './parts.ts'

/** SQL over the engine's union reads. */
export async function openQueryEngine(config: Config, engine: Engine, files: LocalFiles): Promise<QueryEngine> {
  throw new MoonlinkError('bug', 'NOT_BUILT', `SQL is not built yet (${config.memory.sqlBytes}, ${engine.appliedLsn}, ${typeof files})`)
}
