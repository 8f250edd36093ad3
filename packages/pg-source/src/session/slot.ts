import { formatLsn, isMoonlinkError, MoonlinkError, parseLsn, type Clock, type Logger, type Lsn } from '@moonlink/core'
import pg from 'pg'
import { disconnect, explained, type CatalogConnection, type Connector } from './connect.ts'
import { messageOf, sqlState } from './errors.ts'
import { sessionOf, type ServerProcess, type Session } from './server-session.ts'
import { whomItWaitsFor, type SourceWaits, type WaitingWork } from './source-waits.ts'
import { unlessSilent } from './unless-silent.ts'
import { unlessGone, type SilenceOptions } from './watch-silence.ts'

/** A replication slot as the server shows it. */
export interface SlotState {
  readonly plugin: string
  readonly database: string
  readonly isActive: boolean
  /** Process that uses the slot; null where nobody does. */
  readonly activePid: number | null
  /** Everything up to here has been acknowledged. */
  readonly confirmedFlushLsn: Lsn | null
  /** The oldest log the server keeps for the slot. */
  readonly restartLsn: Lsn | null
  /** reserved, extended, unreserved or lost. */
  readonly walStatus: string | null
  /** Why a lost slot is lost, where the server says so. */
  readonly invalidationReason: string | null
  /** It sends prepared transactions when they are prepared, as it does for ever once a stream has asked for that. */
  readonly isTwoPhase: boolean
  /** Standbys keep it too. */
  readonly isFailover: boolean
}

interface SlotRow {
  readonly plugin: string
  readonly database: string | null
  readonly active: boolean
  readonly active_pid: number | null
  readonly confirmed_flush_lsn: string | null
  readonly restart_lsn: string | null
  readonly wal_status: string | null
  readonly invalidation_reason?: string | null
  readonly conflicting?: boolean | null
  readonly two_phase?: boolean
  readonly failover?: boolean
}

/** The slot, or null where there is none. */
export async function readSlot(connection: CatalogConnection, name: string): Promise<SlotState | null> {
  // Through JSON, since each server version adds columns.
  const [found] = await connection.rows<{ slot: SlotRow }>('SELECT to_jsonb(s) AS slot FROM pg_replication_slots s WHERE slot_name = $1', [
    name,
  ])
  if (!found) return null
  const { slot } = found
  return {
    plugin: slot.plugin,
    database: slot.database ?? '',
    isActive: slot.active,
    activePid: slot.active_pid,
    confirmedFlushLsn: slot.confirmed_flush_lsn === null ? null : parseLsn(slot.confirmed_flush_lsn),
    restartLsn: slot.restart_lsn === null ? null : parseLsn(slot.restart_lsn),
    walStatus: slot.wal_status,
    invalidationReason: slot.invalidation_reason ?? (slot.conflicting ? 'conflict' : null),
    isTwoPhase: slot.two_phase === true,
    isFailover: slot.failover === true,
  }
}

/** The server has let go of the log that the slot needs. */
export function isLost(slot: SlotState): boolean {
  return slot.walStatus === 'lost' || slot.invalidationReason !== null
}

/** Throws where the slot can never serve this mirror. */
export function checkSlot(name: string, slot: SlotState, database: string, mayBeLost = false): void {
  const refuse = (code: string, message: string) => new MoonlinkError('invalid', code, message, { context: { slot: name } })
  if (slot.plugin !== 'pgoutput') {
    throw refuse(
      'PG_SLOT_FOREIGN',
      `slot "${name}" belongs to something else: its plugin is ${slot.plugin || 'none (a physical slot)'}, not pgoutput. Choose another name (source.slot).`,
    )
  }
  if (slot.database !== database) {
    throw refuse(
      'PG_SLOT_FOREIGN',
      `slot "${name}" belongs to database "${slot.database}", not "${database}". Choose another name (source.slot).`,
    )
  }
  if (isLost(slot) && !mayBeLost) {
    const why = slot.invalidationReason ?? 'wal_removed'
    throw refuse(
      'PG_SLOT_LOST',
      `slot "${name}" lost the log that it needs (${why}), so changes are missing. With source.onSlotLoss: resync a new one takes its place, and the tables are made equal to the source; max_slot_wal_keep_size and idle_replication_slot_timeout decide how long a server waits.`,
    )
  }
}

/** Throws where the slot has acknowledged more than `after`: the server would go on there, and never say what it left out. */
export function checkNothingLost(name: string, slot: SlotState, after: Lsn): void {
  const confirmed = slot.confirmedFlushLsn
  if (confirmed === null || confirmed <= after) return
  throw new MoonlinkError(
    'invalid',
    'PG_CHANGES_LOST',
    `slot "${name}" has let go of everything up to ${formatLsn(confirmed)}, and what comes after ${formatLsn(after)} is in no log of ours: somebody else moved the slot. The tables that miss changes have to be made equal to the source.`,
    { context: { slot: name, confirmed: formatLsn(confirmed), after: formatLsn(after) } },
  )
}

export interface SlotWait {
  readonly waitMs: number
  readonly clock: Clock
  /** Had the slot by a connection of ours that is closed: where it has not noticed, it is ended. */
  readonly stale?: ServerProcess | null
}

const SLOT_LOOK_MS = 100
/** What a connection that was closed in order has time for. */
const STALE_AFTER_MS = 1000

/** Waits until nobody uses the slot. Throws `retry`/`PG_SLOT_IN_USE` naming who does, and for whom that waits in turn. */
export async function waitForSlot(connection: CatalogConnection, name: string, { clock, stale = null, waitMs }: SlotWait): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += SLOT_LOOK_MS) {
    const slot = await readSlot(connection, name)
    if (!slot?.isActive) return
    if (waitedMs === STALE_AFTER_MS && stale !== null) await endProcess(connection, name, stale)
    if (waitedMs >= waitMs) throw await slotInUse(connection, name, slot.activePid)
    await clock.sleep(SLOT_LOOK_MS)
  }
}

/** Throws what `waitForSlot` threw, unless who has the slot waits for a lock: it may be a connection of ours that was cut off, and is worth a longer wait. */
export function unlessHeldUp(error: unknown): number {
  const { isWaiting, pid } = isMoonlinkError(error) ? error.context : {}
  if (isWaiting !== true || typeof pid !== 'number') throw error
  return pid
}

// One that waits for room to send would hang in telling its client that it ends; that one ends by wal_sender_timeout.
const END_HOLDER = `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots JOIN pg_stat_activity ON pid = active_pid
  WHERE slot_name = $1 AND wait_event IS DISTINCT FROM 'WalSenderWriteData'`

async function endProcess(connection: CatalogConnection, name: string, { pid, since }: ServerProcess): Promise<void> {
  await connection.rows(`${END_HOLDER} AND pid = $2 AND backend_start = $3::text::timestamptz`, [name, pid, since])
}

/** Ends the connection of whoever streams from the slot, if anybody does. Where the user may not, that is logged, and the server ends it in time. */
export async function evictFromSlot(connection: CatalogConnection, name: string, logger: Logger): Promise<void> {
  try {
    await connection.rows(END_HOLDER, [name])
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    logger.warn('the user may not end the connection that still uses the slot; the server does after wal_sender_timeout', {
      slot: name,
      remedy: 'let both backends use one role, or GRANT pg_signal_backend',
      error: messageOf(error),
    })
  }
}

async function slotInUse(connection: CatalogConnection, name: string, pid: number | null): Promise<MoonlinkError> {
  const [holder] = await connection.rows<{ application: string; address: string }>(
    `SELECT coalesce(application_name, '') AS application, coalesce(host(client_addr), 'this machine') AS address FROM pg_stat_activity WHERE pid = $1`,
    [pid],
  )
  const who = holder?.application ? ` ("${holder.application}" from ${holder.address})` : ''
  const whom = pid === null ? null : await whomItWaitsFor(connection, pid)
  const others = 'that mirror, or give this one another slot and publication (source.slot, source.publication).'
  const remedy =
    whom === null
      ? `. Stop ${others}`
      : `, which waits for ${whom}. A connection of this mirror that was cut off lets go of it then; else stop ${others}`
  return new MoonlinkError('retry', 'PG_SLOT_IN_USE', `slot "${name}" is in use by server process ${pid ?? '?'}${who}${remedy}`, {
    context: { slot: name, pid, isWaiting: whom !== null },
  })
}

/** Makes the slot, permanent, starting now. Waits for transactions that are running. */
export async function createSlot(
  connector: Connector,
  connection: CatalogConnection,
  name: string,
  waits: SourceWaits,
  failover = false,
): Promise<Lsn> {
  const client = await connector.connect('slot', false)
  try {
    const sql = `SELECT lsn::text FROM pg_create_logical_replication_slot($1, $2${failover ? ', failover => true' : ''})`
    const { patienceMs } = connector
    const session = await sessionOf(client, patienceMs)
    const work = { pid: session.pid, what: `the new slot "${name}"`, tables: [] }
    const make = () => unlessGone(session, { connection, patienceMs }, () => client.query<{ lsn: string }>(sql, [name, 'pgoutput']))
    const create = () => waits.during(work, make)
    const { rows } = await explained(`creating slot "${name}"`, create, explainSlot)
    return parseLsn(rows[0].lsn)
  } finally {
    await disconnect(client)
  }
}

/** Lets standbys keep a slot too that nobody uses. Postgres 17 and later. */
export async function makeFailoverSlot(connector: Connector, name: string): Promise<void> {
  const client = await connector.connectReplication('slot')
  try {
    const alter = () => client.query(`ALTER_REPLICATION_SLOT ${pg.escapeIdentifier(name)} (FAILOVER true)`)
    await explained(`letting standbys keep slot "${name}"`, () => unlessSilent(client, connector.patienceMs, alter), explainSlot)
  } finally {
    await disconnect(client)
  }
}

/** A temporary slot's consistent point and the snapshot that shows the database there. */
export interface ExportedSnapshot {
  readonly lsn: Lsn
  readonly name: string
}

/** Makes a slot that ends with its connection, and exports its snapshot: usable until the connection's next command. */
export async function exportSnapshot(
  session: Session,
  silence: SilenceOptions,
  slot: string,
  waits: SourceWaits,
  work: WaitingWork,
): Promise<ExportedSnapshot> {
  const version = Number((await silence.connection.rows<{ v: string }>(`SELECT current_setting('server_version_num') AS v`))[0].v)
  const option = version >= 150_000 ? `(SNAPSHOT 'export')` : 'EXPORT_SNAPSHOT'
  const sql = `CREATE_REPLICATION_SLOT ${pg.escapeIdentifier(slot)} TEMPORARY LOGICAL pgoutput ${option}`
  const make = () => session.client.query<{ consistent_point: string; snapshot_name: string }>(sql)
  const create = () => waits.during(work, () => unlessGone(session, silence, make))
  const { rows } = await explained('taking a snapshot for the copy', create, explainSlot)
  return { lsn: parseLsn(rows[0].consistent_point), name: rows[0].snapshot_name }
}

/** Drops the slot; fine if it is not there. */
/** False where there is none of that name. */
export async function dropSlot(connection: CatalogConnection, name: string): Promise<boolean> {
  const dropped = await explained(
    `dropping slot "${name}"`,
    () => connection.rows('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1', [name]),
    explainSlot,
  )
  return dropped.length > 0
}

function explainSlot(error: unknown): MoonlinkError | null {
  const state = sqlState(error)
  const text = messageOf(error)
  if (state === '53400') {
    return new MoonlinkError(
      'invalid',
      'PG_SLOTS_EXHAUSTED',
      `the server has no replication slot left: ${text}. Raise max_replication_slots and restart it, or drop a slot that nobody uses (SELECT * FROM pg_replication_slots).`,
      { cause: error },
    )
  }
  if (state === '42501') {
    return new MoonlinkError(
      'invalid',
      'PG_REPLICATION_PRIVILEGE',
      `the user may not make or drop replication slots: ${text}. Let a superuser run ALTER ROLE … REPLICATION.`,
      { cause: error },
    )
  }
  if (state === '55006')
    return new MoonlinkError('retry', 'PG_SLOT_IN_USE', `${text}. Stop the mirror that uses it first.`, { cause: error })
  return null
}
