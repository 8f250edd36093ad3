import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Lsn } from '@moonlink/core'
import type pg from 'pg'
import { currentLsn, drainSlot } from './ceilings.ts'
import { freshDatabase, type BenchContext } from './context.ts'
import { MirrorProcess } from './mirror-process.ts'
import type { Pace } from './raw-reader.ts'
import { measurement, rounded, type Measurement } from './report.ts'

const RAW_SLOT = 'raw_drain'
/** The mirrors' publication, by default. */
const PUBLICATION = 'moonlink'

/** The usual ten columns, which `ROW` fills. */
export const COLUMNS = `id bigint PRIMARY KEY, n int NOT NULL, name text, note text, price numeric(18,2), at timestamptz, doc jsonb, ok boolean, ref uuid, score float8`

export interface Backlog {
  readonly name: string
  readonly database: string
  readonly mark: string
  /** Columns of the table; the usual ten by default. */
  readonly columns?: string
  readonly prepare: string
  /** Writes the changes and returns how many there are. */
  readonly load: (client: pg.Client) => Promise<number>
}

/** Mirrors that take in the same backlog, one after the other; an odd number. */
const BACKLOG_ROUNDS = 3

/** A mirror that was made before the backlog was and is down while it is. */
interface WaitingMirror {
  readonly stateDir: string
  readonly slot: string
}

interface BacklogRound {
  readonly seconds: number
  readonly raw: number
  readonly cpuSeconds: number | null
  readonly peakRssMiB: number | null
}

/**
 * Makes a backlog while mirrors are down, then times raw drains of it and the mirrors by turns, from the same LSN over the same kind of connection.
 * Each mirror is compared with the drains right before and after it; the round of the median ratio counts.
 */
export async function backlog(context: BenchContext, scenario: Backlog): Promise<Measurement> {
  const { url, client } = await freshDatabase(context, scenario.database)
  await client.query(`CREATE TABLE t (${scenario.columns ?? COLUMNS})`)
  if (scenario.prepare) await client.query(scenario.prepare)
  const waiting = await waitingMirrors(context, url, scenario.database)
  await client.query(`SELECT pg_create_logical_replication_slot('${RAW_SLOT}', 'pgoutput')`)
  const changes = await scenario.load(client)
  const end: Lsn = await currentLsn(client)
  await client.query('SELECT pg_logical_emit_message(true, $1, $2)', ['bench', 'end'])
  context.log(`${scenario.name}: backlog is written`)
  let rawKind = ''
  const drain = async (pace: Pace) => {
    const seconds = await drainSlot(url, RAW_SLOT, PUBLICATION, end, pace, async () => {
      rawKind = (await readingBegun(client, RAW_SLOT)).kind
    })
    await readerGone(client, RAW_SLOT)
    return seconds
  }
  try {
    const eager = await drain('eager')
    const paced = await drain('paced')
    const pace = eager < paced ? 'eager' : 'paced'
    let before = Math.min(eager, paced)
    const rounds: BacklogRound[] = []
    for (const { stateDir, slot } of waiting) {
      const taken = await takeIn(context, client, { url, stateDir, slot, end, kind: rawKind })
      const after = await drain(pace)
      rounds.push({ ...taken, raw: (before + after) / 2 })
      before = after
    }
    rounds.sort((a, b) => a.raw / a.seconds - b.raw / b.seconds)
    const { seconds, raw, cpuSeconds, peakRssMiB } = rounds[Math.floor(BACKLOG_ROUNDS / 2)]
    return measurement(scenario.name, changes, seconds, { name: `${pace} drain of the slot`, seconds: raw }, scenario.mark, {
      cpuSecondsPerMillionRows: cpuSeconds && (cpuSeconds / changes) * 1e6,
      peakRssMiB,
      details: {
        ratios: rounds.map((round) => (round.raw / round.seconds).toFixed(2)).join(' '),
        connection: named(rawKind),
        'first eager drain s': rounded(eager),
        'first paced drain s': rounded(paced),
      },
    })
  } finally {
    await dropSlots(client, [RAW_SLOT, ...waiting.map(({ slot }) => slot)])
    await client.end()
  }
}

async function waitingMirrors(context: BenchContext, url: string, name: string): Promise<WaitingMirror[]> {
  const mirrors = Array.from({ length: BACKLOG_ROUNDS }, (_, round) => ({
    stateDir: mkdtempSync(join(context.directory, `${name}-`)),
    slot: `${name}_${round}`,
  }))
  for (const mirror of mirrors) {
    const first = await startOn(mirror, url)
    await first.ready()
    await first.stop()
  }
  return mirrors
}

function startOn({ stateDir, slot }: WaitingMirror, url: string, profileDir: string | null = null): Promise<MirrorProcess> {
  return MirrorProcess.start({ source: url, stateDir, tables: ['public.t'], profileDir, env: { MOONLINK_SOURCE_SLOT: slot } })
}

/** Starts the mirror and times it from when it reads its slot until it has applied `end`. */
async function takeIn(
  context: BenchContext,
  client: pg.Client,
  at: WaitingMirror & { readonly url: string; readonly end: Lsn; readonly kind: string },
): Promise<Omit<BacklogRound, 'raw'>> {
  const mirror = await startOn(at, at.url, context.profileDir)
  try {
    const { at: started, kind } = await readingBegun(client, at.slot)
    if (kind !== at.kind) throw new Error(`the mirror reads over ${kind}, the raw drain over ${at.kind}: they can't be compared`)
    const before = mirror.usage()
    await mirror.wait(at.end)
    const seconds = (performance.now() - started) / 1000
    const usage = mirror.usage()
    return { seconds, cpuSeconds: usage && before && usage.cpuSeconds - before.cpuSeconds, peakRssMiB: usage && usage.peakRssMiB }
  } finally {
    await mirror.stop()
    await readerGone(client, at.slot)
    rmSync(at.stateDir, { recursive: true, force: true })
  }
}

async function dropSlots(client: pg.Client, slots: readonly string[]): Promise<void> {
  await client.query(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ANY ($1)`, [slots])
}

/** The kind of a connection, with the kernel's congestion control (Linux), which decides over loopback how many packets the server's messages take. */
function named(kind: string): string {
  if (!kind.startsWith('tcp')) return kind
  try {
    return `${kind} (${readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim()})`
  } catch {
    return kind
  }
}

/** When somebody began to read this slot, and over what kind of connection. */
async function readingBegun(client: pg.Client, slot: string): Promise<{ at: number; kind: string }> {
  for (;;) {
    const { rows } = await client.query<{ kind: string }>(
      `SELECT concat(CASE WHEN client_addr IS NULL THEN 'socket' ELSE 'tcp' END, CASE WHEN ssl THEN '+tls' END) AS kind
       FROM pg_replication_slots JOIN pg_stat_activity ON pid = active_pid JOIN pg_stat_ssl USING (pid) WHERE slot_name = $1`,
      [slot],
    )
    if (rows.length > 0) return { at: performance.now(), kind: rows[0].kind }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** The server notices late that a reader hung up, and would go on decoding beside the next one. */
async function readerGone(client: pg.Client, slot: string): Promise<void> {
  for (;;) {
    const { rows } = await client.query(`SELECT 1 FROM pg_replication_slots WHERE active AND slot_name = $1`, [slot])
    if (rows.length === 0) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
