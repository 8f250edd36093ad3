import { formatLsn, maxLsn, MoonlinkError, type Clock, type ExactRange, type Lsn } from '@moonlink/core'
import type { AcquireRequest, ReadLease, ReadLeaseSource, TablePlan } from '@moonlink/union-read'
import { withDeadline } from './deadline.ts'
import type { ReadLeases } from './read-leases.ts'
import type { Mirror } from './mirror.ts'
import type { StreamPosition } from './stream-position.ts'

/** Of the ranges that older snapshots show, a message names so many. */
const RANGES_SHOWN = 8
const POLL_MS = 20

/** Leases over a consistent cut of several mirrors: at the latest LSN, or at one that is held or that retained snapshots show. */
export class Reads implements ReadLeaseSource {
  private readonly mirrors: ReadonlyMap<string, Mirror>
  private readonly reopening: ReadonlyMap<string, unknown>
  private readonly position: StreamPosition
  private readonly leases: ReadLeases

  private readonly clock: Clock
  private readonly requireCurrent: () => Promise<void>

  /** `reopening`: tables whose mirrors are gone for a moment. `requireCurrent` throws where "latest" may not be answered, since somebody else may have later changes. */
  constructor(
    mirrors: ReadonlyMap<string, Mirror>,
    reopening: ReadonlyMap<string, unknown>,
    position: StreamPosition,
    leases: ReadLeases,
    clock: Clock,
    requireCurrent: () => Promise<void>,
  ) {
    this.requireCurrent = requireCurrent
    this.clock = clock
    this.mirrors = mirrors
    this.reopening = reopening
    this.position = position
    this.leases = leases
  }

  readableTables(): readonly string[] {
    return [...new Set([...this.mirrors.keys(), ...this.reopening.keys()])]
  }

  async acquire(request: AcquireRequest): Promise<ReadLease> {
    const { position } = this
    const mirrors = request.tables.map((name) => this.readable(name, request.lsn))
    for (const mirror of mirrors) await this.waitRewound(mirror, request.timeoutMs)
    for (const mirror of mirrors) if (mirror.isCatchingUp) await this.waitCaughtUp(mirror, request.timeoutMs)
    if (request.lsn === null) {
      await this.requireCurrent()
      const needed = mirrors.flatMap((mirror) => [mirror.reads.readableFrom, mirror.reads.floor]).reduce(maxLsn, position.latestFromLsn)
      await position.wait(needed, request.timeoutMs)
      if (this.hasChanged(request, mirrors)) return this.acquire(request)
      const lsn = position.appliedLsn
      return this.leases.grant(
        lsn,
        mirrors.map((mirror) => mirror.reads.plan(lsn)),
      )
    }
    await position.wait(mirrors.map((mirror) => mirror.reads.readableFrom).reduce(maxLsn, request.lsn), request.timeoutMs)
    if (this.hasChanged(request, mirrors)) return this.acquire(request)
    const lease = await this.leasePast(request, mirrors, request.lsn)
    // A commit may have raised a floor while snapshots were loaded, or a table may have been opened again.
    return lease ?? this.acquire(request)
  }

  /** True where a table has begun to be copied or goes back to its last commit, or was opened again, while the read waited. Throws where it can't be read any more. */
  private hasChanged({ lsn, tables }: AcquireRequest, mirrors: readonly Mirror[]): boolean {
    return tables
      .map((name) => this.readable(name, lsn))
      .some((mirror, index) => mirror !== mirrors[index] || mirror.reads.showsNothing || mirror.isCatchingUp)
  }

  private async waitRewound(mirror: Mirror, timeoutMs: number): Promise<void> {
    const deadlineMs = this.clock.nowMs() + timeoutMs
    while (mirror.reads.showsNothing && !mirror.isClosed) {
      const { currentPhase, name } = mirror
      const { rewindTrouble } = mirror.reads
      // Nothing brings it back but another attempt, however long that takes.
      if (rewindTrouble !== null && currentPhase === 'paused') {
        const message = `${name} is paused, and goes back to its last commit, which failed: ${rewindTrouble} It is tried again.`
        throw new MoonlinkError('retry', 'TABLE_PAUSED', message)
      }
      if (this.clock.nowMs() >= deadlineMs)
        throw new MoonlinkError('retry', 'TIMED_OUT', `${mirror.name} still goes back to its last commit after ${timeoutMs} ms; try again`)
      await this.clock.sleep(POLL_MS)
    }
  }

  private async waitCaughtUp(mirror: Mirror, timeoutMs: number): Promise<void> {
    const message = () => `${mirror.name} has been copied, but what changed meanwhile is not applied after ${timeoutMs} ms; try again`
    await withDeadline(this.clock, timeoutMs, mirror.caughtUp(), message)
  }

  /** A lease at an LSN that may lie below floors; null where a floor rose meanwhile, or a table was opened again. */
  private async leasePast(request: AcquireRequest, mirrors: readonly Mirror[], lsn: Lsn): Promise<ReadLease | null> {
    const retained = new Map<Mirror, TablePlan>()
    const holds: (() => void)[] = []
    try {
      for (const mirror of mirrors) {
        if (lsn >= mirror.reads.floor) continue
        holds.push(await mirror.reads.holdSnapshots())
        const plan = await mirror.reads.planRetained(lsn)
        if (!plan) throw notHeld(mirror, lsn, this.position.appliedLsn)
        retained.set(mirror, plan)
      }
      if (this.hasChanged(request, mirrors) || mirrors.some((mirror) => lsn < mirror.reads.floor && !retained.has(mirror))) return null
      return this.leases.grant(
        lsn,
        mirrors.map((mirror) => retained.get(mirror) ?? mirror.reads.plan(lsn)),
      )
    } finally {
      for (const release of holds) release()
    }
  }

  private readable(name: string, lsn: Lsn | null): Mirror {
    const mirror = this.mirrors.get(name)
    if (this.reopening.has(name)) throw copying(name)
    if (!mirror) {
      const known = [...this.mirrors.keys()].join(', ') || 'none'
      throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `no table ${name} is mirrored (mirrored: ${known})`)
    }
    // Nothing brings it on any more: what waits for that would look again and again.
    mirror.reads.requireOpen()
    const held = mirror.reads.whileResyncing
    if (held !== null) {
      if (lsn !== null && lsn <= held) return mirror
      const until = `${name} is made equal to its source again: ${mirror.pauseReason ?? ''}. Until then it can be read at ${formatLsn(held)} (--at-lsn)`
      throw new MoonlinkError('retry', 'TABLE_RESYNCING', until)
    }
    if (mirror.currentPhase === 'copying') throw copying(name)
    if (mirror.currentPhase === 'streaming') return mirror
    const through = mirror.reads.whilePaused
    if (through !== null && lsn !== null && lsn <= through) return mirror
    const readable = through === null ? '' : `, and can be read at ${formatLsn(through)} (--at-lsn)`
    throw new MoonlinkError('invalid', 'TABLE_PAUSED', `${name} is ${mirror.currentPhase}${readable}: ${mirror.pauseReason ?? ''}`)
  }
}

function copying(name: string): MoonlinkError {
  return new MoonlinkError('retry', 'TABLE_COPYING', `${name} is still being copied; try again when it is streaming`)
}

function notHeld(mirror: Mirror, lsn: Lsn, applied: Lsn): MoonlinkError {
  const text = ({ fromLsn, throughLsn }: ExactRange) =>
    fromLsn === throughLsn ? formatLsn(fromLsn) : `${formatLsn(fromLsn)} to ${formatLsn(throughLsn)}`
  const retained = mirror.reads.retainedRanges().map(text)
  const also =
    retained.length > 0
      ? `, and in older snapshots ${retained.slice(0, RANGES_SHOWN).join(', ')}${retained.length > RANGES_SHOWN ? ', …' : ''}`
      : ''
  return new MoonlinkError(
    'invalid',
    'LSN_NOT_HELD',
    `${mirror.name} can't be read at ${formatLsn(lsn)} any more: held are ${formatLsn(mirror.reads.floor)} to ${formatLsn(applied)}${also}`,
    { context: { table: mirror.name, lsn: formatLsn(lsn), floor: formatLsn(mirror.reads.floor), applied: formatLsn(applied) } },
  )
}
