import { join } from 'node:path'
import type { Clock, Lease, Logger, Lsn, MoonlinkError, Random, Telemetry } from '@moonlink/core'
import { Engine } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import { MoonlinkBackend } from './backend.ts'
import { CloseStack } from './close-stack.ts'
import { engineLimits } from './limits.ts'
import { nudgedLeases } from './nudging.ts'
import { openChangeLog } from './open-change-log.ts'
import { openQueryEngine } from './open-query-engine.ts'
import { openSource } from './open-source.ts'
import type { OpenedWarehouse } from './open-warehouse.ts'
import type { SourceHandle } from './parts.ts'
import { patiently } from './patiently.ts'
import type { StateStore } from './state.ts'
import type { WrapPort } from './wrap-port.ts'

export interface StartOptions {
  readonly config: Config
  readonly url: string
  readonly warehouse: OpenedWarehouse
  readonly lease: Lease | null
  readonly stateStore: StateStore
  readonly telemetry: Telemetry
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly wrap: WrapPort
  /** Ends the start. */
  readonly signal: AbortSignal
  /** Told of each source that is open; what it needs is made then. */
  readonly onSource: (source: SourceHandle) => Promise<void>
  /** Told where the source is away, and that waited for. */
  readonly onTrouble: (error: MoonlinkError) => Promise<void>
}

export interface StartedMirror {
  readonly backend: MoonlinkBackend
  readonly engine: Engine
  /** Commits what was read and lets go of everything that the start opened. Throws where a commit failed. */
  close(): Promise<void>
}

/** A connection that worked is gone. */
const LOST = 'PG_CONNECTION_LOST'
/** A server answered that may be promoted. */
const STANDBY = 'PG_STANDBY'
/** What says that the source is away, or not a primary yet. */
const AWAY = new Set([LOST, 'PG_UNREACHABLE', 'PG_STARTING', 'PG_TOO_MANY_CONNECTIONS', 'PG_CONNECT', STANDBY])

/**
 * Opens the source and all that depends on it, and begins to mirror. A source that can't be reached ends it, but for a standby, whose turn comes when it may. One that goes
 * away once it was reached is waited for, and everything begun anew, as by another process.
 */
export function startMirror(options: StartOptions): Promise<StartedMirror> {
  const { config, signal } = options
  let wasReached = config.standby.enabled
  const onSource = async (source: SourceHandle) => {
    wasReached = true
    await options.onSource(source)
  }
  return patiently({
    ...options,
    waitsOut: ({ code }) => {
      wasReached ||= code === LOST || code === STANDBY
      return !signal.aborted && wasReached && AWAY.has(code)
    },
    attempt: async () => {
      const stack = new CloseStack()
      try {
        return await startOnce({ ...options, onSource }, stack)
      } catch (error) {
        await stack.close().catch(() => undefined)
        throw error
      }
    },
  })
}

async function startOnce(options: StartOptions, stack: CloseStack): Promise<StartedMirror> {
  const { config, lease, stateStore, warehouse, wrap, onSource, onTrouble: _, signal, url, ...ports } = options
  const { clock, logger } = ports
  const source = wrap('source', await openSource(config, url, logger, lease?.predecessor != null))
  stack.push(() => source.close())
  signal.throwIfAborted()
  // Whatever the start waits for, it ends with this.
  const onAbort = () => void source.close()
  signal.addEventListener('abort', onAbort)
  stack.push(async () => signal.removeEventListener('abort', onAbort))
  await onSource(source)
  const engine = new Engine({ ...ports, indexDirectory: join(config.stateDir, 'index'), limits: engineLimits(config) })
  const sql = await openQueryEngine(config, nudgedLeases(engine, source, clock), warehouse, logger)
  stack.push(() => sql.close())
  const openLog = (sourceFromLsn: Lsn) =>
    openChangeLog(config, { ...ports, wrap, lease, store: warehouse.store, source: source.identity, sourceFromLsn })
  const parts = { ...ports, config, source, warehouse, engine, sql, openLog, stateStore: wrap('state', stateStore), lease }
  const backend = await MoonlinkBackend.start(parts)
  stack.push(() => backend.close())
  return { backend, engine, close: () => stack.close() }
}
