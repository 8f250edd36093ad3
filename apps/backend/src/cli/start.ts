import { totalmem } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@moonlink/core'
import type { Config } from '../config/schema.ts'
import { createApi } from '../http/app.ts'
import { checkAddress } from '../http/server.ts'
import { isLoopback } from '../config/loopback.ts'
import { composeBackend, uninstallSource, type ComposedBackend } from '../service/compose.ts'
import { memoryNotes } from '../service/memory-need.ts'
import { asItIs, type WrapPort } from '../service/wrap-port.ts'
import { createLogger, withTroubleLines } from '../service/logger.ts'
import { stoppedBeforeMirroring } from '../service/stopping.ts'
import { ApiServer } from './api-server.ts'
import { removedText, say } from './commands.ts'
import { LiveView, PlainView } from './live-view.ts'
import { whatToTry } from './hints.ts'
import { notYetApi } from './not-yet-api.ts'
import { acquireLease } from './standby.ts'
import { StopSignals } from './stop-signals.ts'
import { visible } from '../visible.ts'

export interface SourceFlags {
  readonly config?: string
  readonly source?: string
  readonly stateDir?: string
  readonly set?: readonly string[]
}

export interface StartFlags extends SourceFlags {
  readonly table?: readonly string[]
  readonly warehouse?: string
  readonly http?: string
  readonly standby?: boolean
}

const liveIntervalMs = 500
const plainIntervalMs = 5_000
/** Mirrors until a signal, a request or an error ends it; returns when everything is committed. `wrap` is for tests. */
export async function start(config: Config, wrap: WrapPort = asItIs): Promise<void> {
  // Nobody may be looking any more: a mirror goes on, or ends in order.
  process.stdout.removeAllListeners('error').on('error', () => undefined)
  process.stderr.on('error', () => undefined)
  const output = process.stdout.isTTY ? terminalOutput() : plainOutput()
  const file = config.log.to === 'file' ? join(config.stateDir, 'moonlink.log') : null
  const server = new ApiServer(output.note)
  const signals = new StopSignals(output.note)
  const composed = await composeBackend(config, {
    logger: () => {
      const logger = createLogger(config.log.level, file)
      return file === null ? logger : withTroubleLines(logger, output.trouble)
    },
    onOwned: () => checkAddress(config.http.listen),
    onStep: output.note,
    onStarting: async (starting, logger) => {
      signals.call(() => starting.requestStop())
      await server.open(notYetApi(config, starting, logger), config.http.listen)
    },
    wrap,
    acquire: (place, logger) => {
      const onSignal = (stop: () => void) => {
        signals.call(stop)
        return () => signals.release()
      }
      return acquireLease(config, place, logger, { note: output.note, onSignal })
    },
  }).catch(async (error: unknown) => {
    await server.close()
    signals.release()
    if (error !== stoppedBeforeMirroring) throw error
    return null
  })
  if (composed === null) return output.note('stopped')
  const url = serve(config, composed, server)
  const hints = whatToTry({ config, tables: composed.tables, url, environment: process.env })
  for (const line of [...welcome(config, composed, url), ...hints]) output.note(line)
  const view = output.follow(composed)
  const failure = await composed.backend.ended
  view.stop()
  output.note(failure === null ? 'stopping: what was read is committed first' : 'stopping')
  const copying = await copyingTables(composed)
  const closed = await composed.close().then(
    () => null,
    (error: unknown) => error,
  )
  await server.close()
  signals.release()
  if (failure !== null) throw failure
  if (closed !== null) throw closed
  output.note(stoppedText(copying))
  if (config.source.url === undefined)
    output.note(`the demo and its mirror stay in ${config.stateDir}: the next start goes on with them; remove that directory to begin anew`)
}

async function copyingTables({ backend }: ComposedBackend): Promise<string[]> {
  const status = await backend.status().catch(() => null)
  return status?.tables.filter(({ state }) => state === 'copying').map(({ name }) => name) ?? []
}

/** What a person who has just ended the mirror wants to know. */
function stoppedText(copying: readonly string[]): string {
  if (copying.length === 0) return 'stopped; everything that was read is in Iceberg'
  return `stopped before all of ${copying.join(', ')} was copied, or compared with the source: the next start goes on with that; all else that was read is in Iceberg`
}

/** Returns where the mirror's API is. */
function serve(config: Config, composed: ComposedBackend, server: ApiServer): string {
  const { backend, logger, telemetry } = composed
  const api = createApi(backend, {
    token: config.http.token,
    loopback: isLoopback(config.http.listen),
    logger,
    telemetry,
    metrics: () => composed.metrics(),
  })
  return server.started(api)
}

/** Removes slot and publication of the configured source; nothing may be running on them. */
export async function uninstallWithoutBackend(config: Config): Promise<void> {
  await say(removedText(await uninstallSource(config)))
}

interface Output {
  /** Prints a line that stays. */
  readonly note: (line: string) => void
  readonly trouble: (line: string) => void
  follow(composed: ComposedBackend): { stop(): void }
}

function terminalOutput(): Output {
  const { stdout } = process
  const view = new LiveView({
    get columns() {
      return stdout.columns || 80
    },
    get rows() {
      return stdout.rows || 24
    },
    write: (text) => void stdout.write(text),
  })
  const note = (line: string) => view.note(line)
  return {
    note,
    trouble: note,
    follow: (composed) => {
      note('')
      return every(liveIntervalMs, async () => view.draw(await composed.backend.status()))
    },
  }
}

function plainOutput(): Output {
  const view = new PlainView()
  const note = (line: string) => void process.stdout.write(`${visible(line)}\n`)
  return {
    note,
    trouble: (line) => void process.stderr.write(`${visible(line)}\n`),
    follow: (composed) =>
      every(plainIntervalMs, async () => {
        for (const line of view.lines(await composed.backend.status())) note(line)
      }),
  }
}

/** Repeats work, one at a time, until stopped; what it throws is left out, since the next time tells more. */
function every(intervalMs: number, work: () => Promise<void>): { stop(): void } {
  const stopped = new AbortController()
  void (async () => {
    while (!stopped.signal.aborted) {
      await work().catch(() => undefined)
      await systemClock.sleep(intervalMs, stopped.signal).catch(() => undefined)
    }
  })()
  return { stop: () => stopped.abort(new Error('stopped')) }
}

/** Bytes that the container allows, or that the machine has. */
function availableMemory(): number {
  return Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem())
}

function welcome(config: Config, composed: ComposedBackend, url: string): string[] {
  const left = composed.leftOut.map((reason) => `not mirrored: ${reason}`)
  return [
    `mirroring ${composed.sourceName} to ${config.warehouse ?? config.catalog.uri ?? ''}; the API is at ${url}`,
    ...left,
    ...composed.notes,
    ...memoryNotes(config, availableMemory()),
  ]
}
