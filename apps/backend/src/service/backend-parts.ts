import type { ChangeLog, Clock, Lease, Logger, Lsn, Random, Telemetry } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import type { QueryEngine, SourceHandle, Warehouse } from './parts.ts'
import type { StateStore } from './state.ts'

/** What a backend is composed of. It closes none of these; whoever composed it does. */
export interface BackendParts {
  readonly config: Config
  readonly source: SourceHandle
  readonly warehouse: Warehouse
  readonly engine: Engine
  readonly sql: QueryEngine
  /** Opens the change log, if there shall be one, as it is to be used by a source that can stream from `sourceFromLsn` on. */
  readonly openLog: (sourceFromLsn: Lsn) => Promise<ChangeLog | null>
  readonly stateStore: StateStore
  /** Our right to write the log and to use the slot, where others may want it; null where the state directory's lock is enough. */
  readonly lease: Lease | null
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly telemetry: Telemetry
}
