import type { PgSourceSettings } from './config.ts'
import type { ServerFacts } from './preflight.ts'

/** What people are told of a source before it costs them anything, a line each. */
export function sourceNotes(
  { version, versionNumber }: Pick<ServerFacts, 'version' | 'versionNumber'>,
  { failover, slot, twoPhase }: Pick<PgSourceSettings, 'failover' | 'slot' | 'twoPhase'>,
): readonly string[] {
  // The slot comes to a standby without its two_phase_at (RemoteSlot, src/backend/replication/logical/slotsync.c), below which the changes come with the commit.
  if (!failover || !twoPhase || versionNumber >= 180_000) return []
  return [
    `Postgres ${version} does not tell standbys since when slot "${slot}" sends transactions as they are prepared, 18 does: what was prepared before source.twoPhase was set, and commits after a failover, comes without its changes then, and all tables are compared with the source (PG_PREPARED_LOST). End such transactions (pg_prepared_xacts) before a failover, or upgrade the server.`,
  ]
}
