import type { Lease, LeasePlace, Logger } from '@moonlink/core'
import type { Config } from '../config/schema.ts'
import { listen, type RunningServer } from '../http/server.ts'
import { StandbyOperations } from '../service/standby-operations.ts'
import { stoppedBeforeMirroring } from '../service/stopping.ts'
import { notYetApi } from './not-yet-api.ts'

export interface StandbyOutput {
  readonly note: (line: string) => void
  /** Calls `stop` when a signal asks for it, until the returned function is called. */
  readonly onSignal: (stop: () => void) => () => void
}

/** Takes the lease at once, or waits for it where the configuration says so; the API then tells for whom. Throws `stoppedBeforeMirroring`. */
export async function acquireLease(config: Config, place: LeasePlace, logger: Logger, output: StandbyOutput): Promise<Lease> {
  if (!config.standby.enabled) return place.acquire({ waits: false })
  const stopped = new AbortController()
  const operations = new StandbyOperations('', () => stopped.abort(stoppedBeforeMirroring))
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
        api.serving ??= listen(notYetApi(config, operations, logger), config.http.listen).then(
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
