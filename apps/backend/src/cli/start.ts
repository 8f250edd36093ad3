import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '@moonlink/core'
import type { Config } from '../config/schema.ts'
import { createApi } from '../http/app.ts'
import { listen, type RunningServer } from '../http/server.ts'
import { isLoopback } from '../config/load.ts'
import { composeBackend, uninstallSource, type ComposedBackend } from '../service/compose.ts'
import { createLogger, withTroubleLines } from '../service/logger.ts'
import { LiveView, PlainView } from './live-view.ts'

export interface SourceFlags {
  readonly config?: string
  readonly source?: string
  readonly set?: readonly string[]
}

export interface StartFlags extends SourceFlags {
  readonly table?: readonly string[]
  readonly warehouse?: string
  readonly stateDir?: string
  readonly http?: string
}

const liveIntervalMs = 500
const plainIntervalMs = 5_000

/** Mirrors until a signal, a request or an error ends it; returns when everything is committed. */
export async function start(config: Config): Promise<void> {
  const output = process.stdout.isTTY ? terminalOutput() : plainOutput()
  const file = config.log.to === 'file' ? join(config.stateDir, 'moonlink.log') : null
  const composed = await composeBackend(config, {
    logger: () => {
      const logger = createLogger(config.log.level, file)
      return file === null ? logger : withTroubleLines(logger, output.trouble)
    },
    onStep: output.note,
  })
  const signals = stopOnSignals(composed, output)
  let server: RunningServer | null = null
  try {
    const api = createApi(composed.backend, { token: config.http.token, loopback: isLoopback(config.http.listen), logger: composed.logger })
    server = await listen(api, config.http.listen)
    for (const line of welcome(config, composed, server.url)) output.note(line)
    const view = output.follow(composed, hints(config, composed))
    const error = await composed.backend.ended
    view.stop()
    output.note(error === null ? 'stopping: what was read is committed first' : 'stopping')
    if (error !== null) throw error
  } finally {
    try {
      await composed.close()
    } finally {
      await server?.close()
      signals.release()
    }
  }
  output.note('stopped; everything that was read is in Iceberg')
}

/** Removes slot and publication of the configured source; nothing may be running on them. */
export async function uninstallWithoutBackend(config: Config): Promise<void> {
  await uninstallSource(config)
  process.stdout.write('slot and publication are removed; the Iceberg tables stay\n')
}

interface Output {
  /** Prints a line that stays. */
  readonly note: (line: string) => void
  readonly trouble: (line: string) => void
  follow(composed: ComposedBackend, hints: readonly string[]): { stop(): void }
}

function terminalOutput(): Output {
  const { stdout } = process
  const view = new LiveView({
    get columns() {
      return stdout.columns
    },
    get rows() {
      return stdout.rows
    },
    write: (text) => void stdout.write(text),
  })
  const note = (line: string) => view.note(line)
  return {
    note,
    trouble: note,
    follow: (composed, footer) => every(liveIntervalMs, async () => view.draw(await composed.backend.status(), footer)),
  }
}

function plainOutput(): Output {
  const view = new PlainView()
  const note = (line: string) => void process.stdout.write(`${line}\n`)
  return {
    note,
    trouble: (line) => void process.stderr.write(`${line}\n`),
    follow: (composed, hintLines) => {
      for (const line of hintLines) note(line)
      return every(plainIntervalMs, async () => {
        for (const line of view.lines(await composed.backend.status())) note(line)
      })
    },
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

/** The first signal asks for a graceful stop; the next one ends the process. */
function stopOnSignals(composed: ComposedBackend, output: Output): { release(): void } {
  let asked = false
  const onSignal = () => {
    if (asked) {
      process.stderr.write('quit; what was not committed comes again at the next start\n')
      process.exit(1)
    }
    asked = true
    output.note('')
    composed.backend.requestStop()
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  return { release: () => void process.off('SIGINT', onSignal).off('SIGTERM', onSignal) }
}

function welcome(config: Config, composed: ComposedBackend, url: string): string[] {
  const left = composed.leftOut.map((reason) => `not mirrored: ${reason}`)
  return [`mirroring ${composed.sourceName} to ${config.warehouse}; the API is at ${url}`, ...left]
}

function hints(config: Config, composed: ComposedBackend): string[] {
  const [table] = composed.tables
  if (table === undefined) return ['no table is mirrored yet; see them with: pnpm moonlink tables list']
  const [schema, name] = table.split('.')
  const place = config.warehouse.startsWith('file://')
    ? join(fileURLToPath(config.warehouse), schema, name)
    : `${config.warehouse}/${schema}/${name}`
  const isDemo = table.startsWith('shop.')
  const sql = isDemo ? 'SELECT status, count(*) FROM shop.orders GROUP BY ALL' : `SELECT count(*) FROM ${table}`
  return [
    `try in another terminal:  pnpm moonlink query "${sql}"`,
    `read it elsewhere:        DuckDB: SELECT count(*) FROM iceberg_scan('${place}')`,
  ]
}
