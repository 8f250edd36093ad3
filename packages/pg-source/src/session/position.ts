import { isMoonlinkError, MoonlinkError, parseLsn, systemClock, type Clock, type Lsn } from '@moonlink/core'
import type { CatalogConnection } from './connect.ts'
import { sqlState } from './errors.ts'

/** Where the source and its slot are. */
export interface SourcePosition {
  /** End of the flushed log. */
  readonly sourceLsn: Lsn
  /** Acknowledged through the slot; null where there is no slot. */
  readonly confirmedFlushLsn: Lsn | null
  /** Log that the server keeps for the slot, in bytes. */
  readonly retainedBytes: number
  /** How the slot stands; null where there is none. */
  readonly slot: SlotHealth | null
}

export interface SlotHealth {
  /** `pg_replication_slots.wal_status`: reserved, extended, unreserved (about to be lost) or lost. */
  readonly walStatus: string | null
  /** Log that may still be written before the server drops what the slot needs (`max_slot_wal_keep_size`); null where there is no limit. */
  readonly headroomBytes: number | null
  /** Why a lost slot is lost, where the server says so. */
  readonly invalidationReason: string | null
}

interface PositionRow {
  readonly flush: string
  readonly retained: number | null
  readonly slot: {
    readonly confirmed_flush_lsn: string | null
    readonly wal_status: string | null
    readonly safe_wal_size: number | null
    readonly invalidation_reason?: string | null
    readonly conflicting?: boolean | null
  } | null
}

export async function readPosition(connection: CatalogConnection, slot: string): Promise<SourcePosition> {
  // The slot through JSON, since each server version adds columns.
  const [{ flush, retained, slot: found }] = await connection.rows<PositionRow>(
    `SELECT pg_current_wal_flush_lsn()::text AS flush, (pg_current_wal_flush_lsn() - s.restart_lsn)::float8 AS retained,
       CASE WHEN s.slot_name IS NOT NULL THEN to_jsonb(s) END AS slot
     FROM (SELECT) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $1`,
    [slot],
  )
  const confirmed = found?.confirmed_flush_lsn ?? null
  return {
    sourceLsn: parseLsn(flush),
    confirmedFlushLsn: confirmed === null ? null : parseLsn(confirmed),
    retainedBytes: Math.max(0, retained ?? 0),
    slot:
      found === null
        ? null
        : {
            walStatus: found.wal_status,
            headroomBytes: found.safe_wal_size,
            invalidationReason: found.invalidation_reason ?? (found.conflicting ? 'conflict' : null),
          },
  }
}

/** Where a primary is, and on which timeline; null where it does not tell that to those who ask by SQL, as some hosted services do not. */
export async function readPlace(connection: CatalogConnection): Promise<{ readonly lsn: Lsn; readonly timeline: number | null }> {
  const read = async (timeline: string) => {
    const [row] = await connection.rows<{ flush: string; file: string | null }>(
      `SELECT flush::text AS flush, ${timeline} AS file FROM (SELECT pg_current_wal_flush_lsn() AS flush) AS place`,
    )
    // The first eight digits of a log file's name.
    return { lsn: parseLsn(row.flush), timeline: row.file === null ? null : Number.parseInt(row.file.slice(0, 8), 16) }
  }
  return read('pg_walfile_name(flush)').catch((error: unknown) => {
    if (isMoonlinkError(error, 'retry')) throw error
    return read('NULL')
  })
}

/** Waits for the log writer, ms; then the log is flushed by a commit of ours. */
const PAUSES_MS = [2, 5, 10]
/** Asynchronous commits are flushed within three times wal_writer_delay. */
const ASYNC_COMMIT_FACTOR = 3

/**
 * An LSN at or behind the end of every transaction committed before the call, that the log's flushed part reaches.
 *
 * Commits lie before the insert position; only what is flushed is ever decoded. The two differ while a commit is under way or asynchronous, which passes
 * by itself, and where the log ends in something that nobody has committed, which may stay so for long: then a message is committed behind it.
 */
export async function reachableLsn(connection: CatalogConnection, clock: Clock = systemClock): Promise<Lsn> {
  const first = await readEnds(connection)
  if (isReached(first.insert, first.flush)) return first.flush
  for (const pauseMs of PAUSES_MS) {
    await clock.sleep(pauseMs)
    const { flush } = await readEnds(connection)
    if (isReached(first.insert, flush)) return first.insert < flush ? first.insert : flush
  }
  if (await flushByMessage(connection)) return first.insert
  // We may not write. What is committed is flushed after a while in any case.
  await clock.sleep(ASYNC_COMMIT_FACTOR * (await walWriterDelayMs(connection)))
  return (await readEnds(connection)).flush
}

async function readEnds(connection: CatalogConnection): Promise<{ insert: Lsn; flush: Lsn }> {
  const [row] = await connection.rows<{ insert: string; flush: string }>(
    'SELECT pg_current_wal_insert_lsn()::text AS insert, pg_current_wal_flush_lsn()::text AS flush',
  )
  return { insert: parseLsn(row.insert), flush: parseLsn(row.flush) }
}

const PAGE = 8192n
/** Size of a page header: 24 bytes, 40 on the first page of a segment. */
const PAGE_HEADER_MAX = 40n

/** True where no record lies between the two: the insert position may have stepped over a page's header only. */
function isReached(insert: Lsn, flush: Lsn): boolean {
  return flush >= insert || (flush % PAGE === 0n && insert - flush <= PAGE_HEADER_MAX)
}

/** Writes a message of a few bytes to the log, as a transaction of its own. False where we may not. */
export function heartbeat(connection: CatalogConnection): Promise<boolean> {
  return flushByMessage(connection)
}

async function flushByMessage(connection: CatalogConnection): Promise<boolean> {
  try {
    await connection.exclusive(async (client) => {
      await client.query('BEGIN')
      try {
        await client.query('SET LOCAL synchronous_commit = local')
        await client.query(`SELECT pg_logical_emit_message(true, 'moonlink', '')`)
        await client.query('COMMIT')
      } catch (error) {
        await client.query('ROLLBACK')
        throw error
      }
    })
    return true
  } catch (error) {
    if (error instanceof MoonlinkError || sqlState(error) === null) throw error
    return false
  }
}

async function walWriterDelayMs(connection: CatalogConnection): Promise<number> {
  const [row] = await connection.rows<{ ms: string }>(`SELECT setting AS ms FROM pg_settings WHERE name = 'wal_writer_delay'`)
  return Number(row?.ms ?? 200)
}
