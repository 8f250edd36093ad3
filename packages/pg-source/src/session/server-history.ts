import {
  formatLsn,
  maxLsn,
  minLsn,
  MoonlinkError,
  parseLsn,
  type ChangeLog,
  type Logger,
  type Lsn,
  type ResumePoint,
  type TimelineLsn,
} from '@moonlink/core'
import type pg from 'pg'
import { explained } from './connect.ts'
import { sqlState, standbyError } from './errors.ts'

/** Where a server is: on which timeline, and up to where its log is flushed. */
export interface ServerPlace {
  readonly systemId: string
  readonly timeline: number
  readonly flushLsn: Lsn
}

/** What a server says of its history. */
export interface HistoryServer {
  place(): Promise<ServerPlace>
  /** The history file of a timeline. */
  timelineHistory(timeline: number): Promise<string>
}

/** Where a timeline ended and another went on. */
interface TimelineSwitch {
  readonly timeline: number
  readonly endLsn: Lsn
}

/** A timeline. Of servers that were promoted beside each other it has one number, but another beginning where one had more of the log than the other. */
interface Timeline {
  /** Null where it is not known. */
  readonly timeline: number | null
  /** Where it began, 0 for the first; null where that is not known. */
  readonly sinceLsn: Lsn | null
}

/** What was read: up to there, on that timeline. */
interface ReadHistory {
  readonly timeline: number
  readonly reachedLsn: Lsn
}

/** Nobody's: what was read is known to be of another than the server's. */
const NO_TIMELINE = 0
const FIRST_TIMELINE = 1
const UNDEFINED_FILE = '58P01'

/**
 * Which of a server's histories was read, and how far: so that a standby that was promoted without the last of it, or a server that was restored, is
 * known for what it is.
 */
export class FollowedHistory {
  private readonly systemId: string
  private readonly logger: Logger
  private readThroughLsn: Lsn = 0n
  /** Where tables were looked at in the catalog, by timeline, before a stream was found to have that. */
  private looks = new Map<number, Lsn>()
  private lookedThroughLsn: Lsn = 0n
  /** Up to where tables have what was committed of each timeline, before a stream was found to have that. */
  private readonly committedThrough = new Map<number, Lsn>()
  /** Those say of all that the tables have on which timeline it lies. */
  private isToldWholly = true
  private isRemembered = false
  private read: Timeline & { readonly remember: () => Promise<void> } = {
    timeline: null,
    sinceLsn: null,
    remember: () => Promise.resolve(),
  }

  constructor(systemId: string, logger: Logger) {
    this.systemId = systemId
    this.logger = logger
  }

  /** Something was read, or looked at, that is so up to here, on whatever timeline: tables want no change from before. */
  get reachedLsn(): Lsn {
    return maxLsn(this.readThroughLsn, this.lookedThroughLsn)
  }

  /** The timeline on which lies what was read; null where that is not known. */
  get timeline(): number | null {
    return this.read.timeline
  }

  /** Where that timeline began; null where that is not known. */
  get sinceLsn(): Lsn | null {
    return this.read.sinceLsn
  }

  /** What was read by an earlier process lies on `timeline`, which began at `sinceLsn`. `remember` writes down another one, before anything that came after the switch is read. */
  resume(timeline: number | null, sinceLsn: Lsn | null, remember: () => Promise<void>): void {
    this.read = { timeline, sinceLsn, remember }
    this.isRemembered = timeline !== null
  }

  /**
   * A table that goes on from its last commit, at `throughLsn`, has what that timeline brought up to there; of which the rest is, nobody knows. To be called between `resume` and the first
   * stream: so a server that lacks some of it is known for that where nothing else is remembered.
   */
  committed({ lsn, timeline }: TimelineLsn, throughLsn: Lsn): void {
    this.committedThrough.set(timeline, maxLsn(this.committedThrough.get(timeline) ?? 0n, lsn))
    this.isToldWholly &&= lsn >= throughLsn
    if (!this.isRemembered) this.read = { ...this.read, timeline: this.isToldWholly ? Math.max(...this.committedThrough.keys()) : null }
  }

  private forgetCommitted(): void {
    this.committedThrough.clear()
    this.isToldWholly = true
  }

  /** The timeline on which all lies that was read; null while that is not certain. */
  get certainTimeline(): number | null {
    const { timeline } = this.read
    const isCertain = timeline !== NO_TIMELINE && [...this.committedThrough.keys()].every((committed) => committed === timeline)
    return isCertain ? timeline : null
  }

  /** Something was read that is so up to here. */
  reached(lsn: Lsn): void {
    this.readThroughLsn = maxLsn(this.readThroughLsn, lsn)
  }

  /** Tables begin as the catalog has them, which is so up to `lsn` of that timeline: that may be another than the one that is read. Null: nobody knows which. */
  looked(timeline: number | null, lsn: Lsn): void {
    this.lookedThroughLsn = maxLsn(this.lookedThroughLsn, lsn)
    if (timeline === null) this.reached(lsn)
    else this.looks.set(timeline, maxLsn(this.looks.get(timeline) ?? 0n, lsn))
  }

  /** Tables are about to be looked at anew that were looked at before. */
  forgetLooks(): void {
    this.looks.clear()
  }

  /** A stream is about to be read after `after` by tables that stand there, with what the log has. */
  resumes(after: Lsn, log: ChangeLog | undefined, tables: readonly ResumePoint[]): void {
    this.reached(log?.status.range?.endLsn ?? 0n)
    const isLook = tables.some(({ readThroughLsn, throughLsn }) => readThroughLsn !== undefined && throughLsn === after)
    if (!isLook) this.reached(after)
    for (const { copiedLsn = 0n, throughLsn, readThroughLsn = throughLsn } of tables) this.reached(maxLsn(copiedLsn, readThroughLsn))
  }

  /**
   * A copy is about to be taken from this server. Returns its timeline, for `copied`. Throws `retry`/`PG_TIMELINE_UNCHECKED` where that is another than the one that was read: whether
   * it has all of that, the next stream finds out. Throws `PG_DIVERGED` where that is not known, or the same, and it lacks some for sure.
   */
  async beginCopy(server: HistoryServer): Promise<number> {
    const place = await server.place()
    const { systemId, timeline } = place
    refuseOther(systemId, this.systemId)
    const sinceLsn = await beginOf(server, timeline)
    if (this.read.timeline === null) {
      await this.requireReached(place, this.reachedLsn)
      await this.goOn(timeline, sinceLsn)
    }
    if (this.read.timeline === timeline) await this.requireReached(place, this.readThroughLsn)
    this.requireSame(timeline)
    if (isAnother(this.read.sinceLsn, sinceLsn)) throw unchecked(timeline, `another timeline ${timeline}`)
    return timeline
  }

  /** What was copied shows all of that timeline up to `lsn`. Throws as `beginCopy` does. */
  copied(timeline: number, lsn: Lsn): void {
    this.requireSame(timeline)
    this.reached(lsn)
  }

  /** What was read is compared with whatever the server has: the next stream may be of any timeline. */
  acceptAny(): void {
    this.read = { ...this.read, timeline: null, sinceLsn: null }
    this.forgetCommitted()
  }

  /**
   * A stream is about to begin on this server. Throws `PG_OTHER_CLUSTER` where its server is not of the cluster of the start, and where its history is not
   * the one that was read: `PG_DIVERGED`, or `retry`/`PG_BEHIND` where it was promoted and its log has not come so far. Where the timeline is not known that was
   * read, any will do that has come so far.
   */
  async follow(server: HistoryServer): Promise<void> {
    const before = this.read
    const { timeline, sinceLsn } = await explained(
      'asking for its history',
      () => this.check(server),
      () => null,
    )
    const isSame = timeline === before.timeline
    if (!isSame || (sinceLsn !== null && sinceLsn !== before.sinceLsn)) await this.goOn(timeline, sinceLsn)
    for (const lsn of this.looks.values()) this.reached(lsn)
    this.looks.clear()
    this.forgetCommitted()
    if (isSame) return
    if (before.timeline !== null) this.logger.info('the server went on to another timeline, which has all that was read', { timeline })
  }

  /** Returns the server's timeline. */
  private async check(server: HistoryServer): Promise<{ readonly timeline: number; readonly sinceLsn: Lsn | null }> {
    const place = await server.place()
    refuseOther(place.systemId, this.systemId)
    const { sinceLsn: readSince, timeline } = this.read
    const sinceLsn = await beginOf(server, place.timeline)
    const checkRead = async (read: ReadHistory) => {
      if (read.timeline === place.timeline) await this.requireReached(place, read.reachedLsn)
      await checkHistory(server, place, read)
      if (read.timeline === timeline && timeline === place.timeline) checkBegin(read, readSince, sinceLsn)
    }
    if (timeline === null) await this.requireReached(place, this.reachedLsn)
    else await checkRead({ timeline, reachedLsn: this.readThroughLsn })
    for (const [looked, reachedLsn] of [...this.looks, ...this.committedThrough]) await checkRead({ timeline: looked, reachedLsn })
    return { timeline: place.timeline, sinceLsn }
  }

  /**
   * Where what was read is of the server's timeline, or nobody knows of which, a server that lacks some of it has another history for sure. That is written down: once its log has come so far, nothing
   * else tells.
   */
  private async requireReached(place: ServerPlace, reachedLsn: Lsn): Promise<void> {
    if (place.flushLsn >= reachedLsn) return
    await this.goOn(NO_TIMELINE, null)
    throw lacking(place, reachedLsn)
  }

  private async goOn(timeline: number, sinceLsn: Lsn | null): Promise<void> {
    const before = this.read
    this.read = { ...before, timeline, sinceLsn }
    try {
      await before.remember()
    } catch (error) {
      this.read = before
      throw error
    }
  }

  private requireSame(timeline: number): void {
    if (timeline === this.read.timeline) return
    throw unchecked(timeline, this.read.timeline === NO_TIMELINE ? 'another' : `timeline ${this.read.timeline}`)
  }
}

function unchecked(timeline: number, read: string): MoonlinkError {
  const message = `the server went on to timeline ${timeline}, and what was read is of ${read}: it is copied from once the stream has found that there, too.`
  return new MoonlinkError('retry', 'PG_TIMELINE_UNCHECKED', message)
}

/** Throws where a connection for statements leads to another cluster than that of the start (`PG_OTHER_CLUSTER`), or to a standby (`retry`/`PG_STANDBY`). */
export async function checkCluster(client: pg.Client, systemId: string): Promise<void> {
  const { rows } = await client.query<{ system: string; recovers: boolean }>(
    'SELECT system_identifier::text AS system, pg_is_in_recovery() AS recovers FROM pg_control_system()',
  )
  refuseOther(rows[0].system, systemId)
  if (rows[0].recovers) throw standbyError()
}

/** A server at the other end of a replication connection. */
export function historyServer(client: pg.Client): HistoryServer {
  return {
    async place() {
      const { rows } = await client.query<{ systemid: string; timeline: number | string; xlogpos: string }>('IDENTIFY_SYSTEM')
      // An int4, and an int8 from Postgres 16 on.
      const [{ systemid, timeline, xlogpos }] = rows
      return { systemId: systemid, timeline: Number(timeline), flushLsn: parseLsn(xlogpos) }
    },
    async timelineHistory(timeline) {
      const { rows } = await client.query<{ content: string | Buffer }>(`TIMELINE_HISTORY ${timeline}`)
      return rows[0].content.toString()
    },
  }
}

async function checkHistory(server: HistoryServer, place: ServerPlace, read: ReadHistory): Promise<void> {
  if (place.flushLsn < read.reachedLsn) throw behind(place, read.reachedLsn)
  if (read.timeline === place.timeline) return
  const left = read.timeline === NO_TIMELINE || place.timeline < read.timeline ? null : await leftAt(server, place.timeline, read.timeline)
  if (left === null || read.reachedLsn > left) throw diverged(place, read, left)
}

/** Where a server's timeline began: 0 for the first; null where it does not say so (any more). */
async function beginOf(server: HistoryServer, timeline: number): Promise<Lsn | null> {
  if (timeline === FIRST_TIMELINE) return 0n
  try {
    return parseTimelineHistory(await server.timelineHistory(timeline)).at(-1)?.endLsn ?? null
  } catch (error) {
    // The file was removed from the server's log directory.
    if (sqlState(error) === UNDEFINED_FILE) return null
    throw error
  }
}

function isAnother(known: Lsn | null, sinceLsn: Lsn | null): boolean {
  return known !== null && sinceLsn !== null && known !== sinceLsn
}

/** Two timelines of one number have in common what is before both began. */
function checkBegin({ reachedLsn, timeline }: ReadHistory, known: Lsn | null, sinceLsn: Lsn | null): void {
  if (known === null || sinceLsn === null || !isAnother(known, sinceLsn)) return
  const left = minLsn(known, sinceLsn)
  if (reachedLsn <= left) return
  const message = `the server's timeline ${timeline} began at ${formatLsn(sinceLsn)}, and the one of that number that we read up to ${formatLsn(reachedLsn)} at ${formatLsn(known)}: another server was promoted beside it, so the mirror may have changes that this one lacks.`
  throw new MoonlinkError('invalid', 'PG_DIVERGED', message, {
    context: { timeline, left: formatLsn(left), reached: formatLsn(reachedLsn) },
  })
}

/** Where the history of a server's timeline left another one; null where that is not among what it comes from. */
async function leftAt(server: HistoryServer, timeline: number, earlier: number): Promise<Lsn | null> {
  return parseTimelineHistory(await server.timelineHistory(timeline)).find((found) => found.timeline === earlier)?.endLsn ?? null
}

/** Reads a timeline history file: a line for each earlier timeline, its number, where it ended, and why (`readTimeLineHistory`, timeline.c). */
export function parseTimelineHistory(text: string): readonly TimelineSwitch[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*(\d+)\s+([\dA-F]+\/[\dA-F]+)/i.exec(line)
    return match === null ? [] : [{ timeline: Number(match[1]), endLsn: parseLsn(match[2]) }]
  })
}

function refuseOther(system: string, expected: string): void {
  if (system === expected) return
  throw new MoonlinkError(
    'invalid',
    'PG_OTHER_CLUSTER',
    `the address now leads to another cluster (system identifier ${system}, it was ${expected}). Give the right address, or a new warehouse and state directory for that one.`,
  )
}

function behind({ flushLsn, timeline }: ServerPlace, reachedLsn: Lsn): MoonlinkError {
  return new MoonlinkError(
    'retry',
    'PG_BEHIND',
    `the server's log ends at ${formatLsn(flushLsn)}, before ${formatLsn(reachedLsn)} that was read already: it was promoted (timeline ${timeline}) or restored without that. Once its log has come so far, the tables are made equal to it by comparing; to begin anew instead, drop them with --purge and add them again.`,
  )
}

function lacking({ flushLsn, timeline }: ServerPlace, reachedLsn: Lsn): MoonlinkError {
  const ends = `the server's log (timeline ${timeline}) ends at ${formatLsn(flushLsn)}, before ${formatLsn(reachedLsn)} that was read already`
  return new MoonlinkError(
    'invalid',
    'PG_DIVERGED',
    `${ends}: it was promoted or restored without that, so the mirror may have changes that it lacks.`,
    {
      context: { timeline: null, left: null, reached: formatLsn(reachedLsn) },
    },
  )
}

function diverged(place: ServerPlace, { reachedLsn, timeline }: ReadHistory, left: Lsn | null): MoonlinkError {
  const why =
    timeline === NO_TIMELINE
      ? `lacked some of what we had read up to ${formatLsn(reachedLsn)}`
      : left === null
        ? `does not come from timeline ${timeline}, of which we read up to ${formatLsn(reachedLsn)}`
        : `left timeline ${timeline} at ${formatLsn(left)}, and we read that up to ${formatLsn(reachedLsn)}`
  return new MoonlinkError(
    'invalid',
    'PG_DIVERGED',
    `the server's timeline ${place.timeline} ${why}: it was promoted or restored without its primary's last changes, so the mirror may have changes that it lacks.`,
    { context: { timeline, left: left === null ? null : formatLsn(left), reached: formatLsn(reachedLsn) } },
  )
}
