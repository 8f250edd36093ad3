import type { Logger } from '@moonlink/core'
import type { SourceIdentity } from './parts.ts'
import type { BackendState } from './state.ts'

/** The state of the last run, where that had the same source. That another mirror's is about to be replaced is said. */
export function stateOfSource(state: BackendState | null, identity: SourceIdentity, logger: Pick<Logger, 'warn'>): BackendState | null {
  if (state === null) return null
  const { systemIdentifier, database, slot } = state.source
  if (systemIdentifier === identity.systemIdentifier && database === identity.database && slot === identity.slot) return state
  logger.warn('the state of another mirror was kept here, and is replaced', {
    reason:
      `of database "${database}" with slot ${slot}; that mirror has to compare its tables when it starts again, and its slot holds log on its server ` +
      'until moonlink uninstall removes it. A --state-dir for each keeps both',
  })
  return null
}
