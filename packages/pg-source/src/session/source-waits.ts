import { type Clock, type Logger, type TableName, formatTableName } from '@moonlink/core'
import type { CatalogConnection } from './connect.ts'
import { messageOf } from './errors.ts'

/** Something of ours that waits for other transactions of the source. */
export interface SourceWait {
  /** Of which it is the copy or the comparison; empty where it concerns all. */
  readonly tables: readonly TableName[]
  /** One line: what waits for whom, and what ends that. */
  readonly reason: string
}

export interface WaitingWork extends Pick<SourceWait, 'tables'> {
  /** Server process of the session that may wait. */
  readonly pid: number
  /** What waits, as in "the copy". */
  readonly what: string
}

/** A wait is shown from its first look on, and logged where it lasts. */
const LOOK_MS = 1000
const LOGGED_AFTER_MS = 5000

/** Whoever is at the head of those that a session waits for, directly or by way of others. */
interface Blocker {
  readonly pid: number
  readonly application: string
  readonly user: string | null
  /** Null where it is hidden from us. */
  readonly state: string | null
  readonly since: string | null
  /** Of a prepared transaction, which no process has. */
  readonly prepared: string | null
}

// What activity shows of other roles' sessions without pg_read_all_stats: process, user and application (pg_stat_get_activity, pgstatfuncs.c).
const blockersSql = (first: string, isPreparedFirst: string) => `
  WITH RECURSIVE chain (pid) AS (
    ${first} UNION SELECT blocking FROM chain, unnest(pg_blocking_pids(chain.pid)) blocking WHERE chain.pid <> 0)
  SELECT c.pid, coalesce(nullif(a.application_name, ''), a.backend_type, '') AS application, a.usename AS "user", a.state,
    to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since, NULL AS prepared
  FROM chain c LEFT JOIN pg_stat_activity a ON a.pid = c.pid WHERE c.pid NOT IN (0, $1) AND cardinality(pg_blocking_pids(c.pid)) = 0
  UNION ALL
  SELECT 0, '', p.owner, NULL, to_char(p.prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), p.gid
  FROM pg_prepared_xacts p WHERE ${isPreparedFirst} OR EXISTS (
    SELECT FROM chain JOIN pg_locks w ON w.pid = chain.pid AND NOT w.granted
    WHERE w.transactionid = p.transaction OR EXISTS (
      SELECT FROM pg_locks own JOIN pg_locks held USING (virtualtransaction) WHERE own.transactionid = p.transaction AND own.granted AND own.pid IS NULL
        AND held.granted AND held.pid IS NULL AND held.locktype = w.locktype AND held.database = w.database AND held.relation = w.relation))
  ORDER BY since`

const BLOCKERS = blockersSql('SELECT $1::int', 'false')

// Whoever has what a SHARE UPDATE EXCLUSIVE lock conflicts with. Autovacuum, which no user runs, gives way to who waits (deadlock_timeout).
const HELD = `l.locktype = 'relation' AND l.relation = $2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.granted
  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`
const HOLDERS = blockersSql(
  `SELECT l.pid FROM pg_locks l JOIN pg_stat_activity USING (pid) WHERE ${HELD} AND usesysid IS NOT NULL`,
  `EXISTS (SELECT FROM pg_locks l JOIN pg_locks own USING (virtualtransaction)
    WHERE l.pid IS NULL AND own.pid IS NULL AND own.transactionid = p.transaction AND ${HELD})`,
)

/** Finds out for whom sessions of ours wait, while they may. */
export class SourceWaits {
  private readonly connection: Pick<CatalogConnection, 'rows'>
  private readonly logger: Logger
  private readonly clock: Clock
  private readonly waiting = new Map<WaitingWork, SourceWait>()

  constructor(connection: Pick<CatalogConnection, 'rows'>, logger: Logger, clock: Clock) {
    this.connection = connection
    this.logger = logger
    this.clock = clock
  }

  /** What waits now. */
  get all(): readonly SourceWait[] {
    return [...this.waiting.values()]
  }

  /** Runs what may make a session wait. Where it does, that is shown, and logged after some seconds, again for each other transaction that it waits for. */
  async during<T>(work: WaitingWork, run: () => Promise<T>): Promise<T> {
    const done = new AbortController()
    void this.watch(work, done.signal)
    try {
      return await run()
    } finally {
      done.abort(new Error('done'))
      this.waiting.delete(work)
    }
  }

  private async watch(work: WaitingWork, done: AbortSignal): Promise<void> {
    const startedMs = this.clock.nowMs()
    let logged: string | null = null
    for (;;) {
      await this.clock.sleep(LOOK_MS, done).catch(() => undefined)
      if (done.aborted) return
      const reason = await this.reason(work)
      if (done.aborted) return
      if (reason === null) {
        this.waiting.delete(work)
        continue
      }
      this.waiting.set(work, { tables: work.tables, reason })
      if (reason === logged || this.clock.nowMs() - startedMs < LOGGED_AFTER_MS) continue
      logged = reason
      this.logger.warn('open transactions of the source are waited for', { reason, tables: work.tables.map(formatTableName) })
    }
  }

  private async reason({ pid, what }: WaitingWork): Promise<string | null> {
    try {
      const whom = await whomItWaitsFor(this.connection, pid)
      return whom === null ? null : `${what} waits for ${whom}`
    } catch (error) {
      this.logger.debug('for whom a session waits could not be found out', { what, error: messageOf(error) })
      return null
    }
  }
}

/** Whom a server process waits for, and what ends that; null where it waits for nobody. */
export async function whomItWaitsFor(connection: Pick<CatalogConnection, 'rows'>, pid: number): Promise<string | null> {
  const blockers = await connection.rows<Blocker>(BLOCKERS, [pid])
  return blockers.length === 0 ? null : describeBlockers(blockers)
}

/** Who keeps a table from being added to a publication, and what ends that; null where nobody seems to. Waits for nobody. */
export async function whoLocks(connection: Pick<CatalogConnection, 'rows'>, relationOid: number): Promise<string | null> {
  const holders = await connection.rows<Blocker>(HOLDERS, [0, relationOid])
  return holders.length === 0 ? null : describeBlockers(holders)
}

function describeBlockers([first, ...others]: readonly Blocker[]): string {
  const more = others.length === 0 ? '' : `, and for ${others.length} more`
  const { application, pid, prepared, since, state, user } = first
  if (prepared !== null) {
    return `the prepared transaction "${prepared}" (user ${user ?? '?'}, since ${since} UTC)${more}: COMMIT PREPARED or ROLLBACK PREPARED ends it`
  }
  const details = [
    ...(application === '' ? [] : [`application "${application}"`]),
    ...(user === null ? [] : [`user ${user}`]),
    state === null
      ? 'what it does is hidden: GRANT pg_read_all_stats shows it'
      : `${state}${since === null ? '' : `, in a transaction since ${since} UTC`}`,
  ]
  return `the transaction of process ${pid} (${details.join(', ')})${more}: COMMIT or ROLLBACK there, or SELECT pg_terminate_backend(${pid}), ends it`
}
