import { silentTelemetry, type Lease, type LeasePlace, type Logger } from '@moonlink/core'
import { isLoopback } from '../config/loopback.ts'
import type { Config } from '../config/schema.ts'
import { createApi } from '../http/app.ts'
import { listen, type RunningServer } from '../http/server.ts'
import { StandbyOperations } from '../service/standby-operations.ts'

/** Thrown where a standby was asked to stop before it was its turn. */
export const standbyStopped = new Error('the standby was stopped')

export interface StandbyOutput {
  readonly note: (line: string) => void
  /** Calls `stop` when a signal asks for it, until the returned function is called. */
  readonly onSignal: (stop: () => void) => () => void
}

/** Takes the lease at once, or waits for it where the configuration says so; the API then tells for whom. */
export async function acquireLease(config: Config, place: LeasePlace, logger: Logger, output: StandbyOutput): Promise<Lease> {
  if (!config.standby.enabled) return place.acquire({ waits: false })
  const stopped = new AbortController()
  const operations = new StandbyOperations('', () => stopped.abort(standbyStopped))
  const releaseSignals = output.onSignal(() => operations.requestStop())
  const api: { serving: Promise<RunningServer | null> | null } = { serving: null }
  try {
    return await place.acquire({
      waits: true,
      signal: stopped.signal,
      onWaiting: ({ name }) => {
        operations.holder = name
        output.note(`standby: ${name} runs this mirror; this backend takes over when that one ends`)
        logger.info('this backend is a standby', { holder: name })
        api.serving ??= serve(config, operations, logger).then(
          (server) => {
            output.note(`the standby's API is at ${server.url}`)
            return server
          },
          (error: unknown) => {
            stopped.abort(error)
            return null
          },
        )
      },
    })
  } finally {
    releaseSignals()
    await (await api.serving)?.close()
  }
}

async function serve(config: Config, operations: StandbyOperations, logger: Logger): Promise<RunningServer> {
  const api = createApi(operations, {
    token: config.http.token,
    loopback: isLoopback(config.http.listen),
    logger,
    telemetry: silentTelemetry,
    metrics: async () => '# HELP moonlink_up Whether the change stream is open.\n# TYPE moonlink_up gauge\nmoonlink_up 0\n',
  })
  return listen(api, config.http.listen)
}
