import { isMoonlinkError, MoonlinkError, type Clock, type Lease, type LeaseHolder, type Logger } from '@moonlink/core'
import type { LeaseRecords } from './lease-records.ts'

export interface HeldLeaseOptions {
  readonly records: LeaseRecords
  readonly holder: LeaseHolder
  readonly epoch: number
  readonly predecessor: LeaseHolder | null
  readonly clock: Clock
  readonly logger: Logger
  readonly renewIntervalMs: number
  readonly takeoverMs: number
  /** Milliseconds that nobody sets. */
  readonly monotonicMs: () => number
  /** When its claim was begun. */
  readonly claimedAt: Instant
}

/** One moment by two clocks: the one may be set, the other may stand still while the machine sleeps. */
export interface Instant {
  readonly wallMs: number
  readonly monotonicMs: number
}

const CHECK_ATTEMPTS = 3
const CHECK_PAUSE_MS = 200
/** Of the time after which others take over; the rest is for clocks that do not run alike. */
const CERTAIN_SHARE = 0.8

/** A lease in our hands: renewed until it is released or lost. */
export class HeldLease implements Lease {
  readonly epoch: number
  readonly predecessor: LeaseHolder | null
  private readonly options: HeldLeaseOptions
  private readonly ended = new AbortController()
  private readonly renewing: Promise<void>
  private readonly listeners: ((error: MoonlinkError) => void)[] = []
  private lost: MoonlinkError | null = null
  /** Whoever takes over has seen the record stand still since after this. Null once it is given back. */
  private renewedAt: Instant | null

  constructor(options: HeldLeaseOptions) {
    this.options = options
    this.epoch = options.epoch
    this.predecessor = options.predecessor
    this.renewedAt = options.claimedAt
    this.renewing = this.renew()
  }

  async check(): Promise<void> {
    const { clock, records } = this.options
    for (let attempt = 1; this.lost === null; attempt++) {
      try {
        const newest = await records.newestEpoch()
        if (newest <= this.epoch) return
        this.lose((await records.read(newest))?.holder.name ?? 'another backend')
      } catch (error) {
        if (!isMoonlinkError(error, 'retry') || attempt === CHECK_ATTEMPTS) throw error
        await clock.sleep(CHECK_PAUSE_MS * 2 ** (attempt - 1))
      }
    }
    throw this.lost
  }

  async requireCurrent(): Promise<void> {
    if (this.lost === null && this.isRecent()) return
    await this.check().catch((error: unknown) => {
      if (!isMoonlinkError(error, 'retry')) throw error
      const message = `it can't be told whether another backend has taken over meanwhile: ${error.message} Try again, or read at an LSN (--at-lsn).`
      throw new MoonlinkError('retry', 'LEASE_UNCERTAIN', message, { cause: error })
    })
  }

  private isRecent(): boolean {
    if (this.renewedAt === null) return false
    const { wallMs, monotonicMs } = this.now()
    return Math.max(wallMs - this.renewedAt.wallMs, monotonicMs - this.renewedAt.monotonicMs) < this.options.takeoverMs * CERTAIN_SHARE
  }

  private now(): Instant {
    const { clock, monotonicMs } = this.options
    return { wallMs: clock.nowMs(), monotonicMs: monotonicMs() }
  }

  onLost(listener: (error: MoonlinkError) => void): void {
    if (this.lost !== null) listener(this.lost)
    else this.listeners.push(listener)
  }

  async release(): Promise<void> {
    const { epoch, holder, logger, records, takeoverMs } = this.options
    if (this.ended.signal.aborted) return
    this.ended.abort(new Error('released'))
    await this.renewing
    this.renewedAt = null
    if (this.lost !== null) return
    // A successor does not look at it any more, if there is one already.
    await records.renew(epoch, { holder, renewals: 0, isReleased: true, takeoverMs }).catch((error: unknown) => {
      logger.warn('the lease could not be given back; the next backend waits until it has expired', { error: String(error) })
    })
  }

  private async renew(): Promise<void> {
    const { clock, epoch, holder, logger, records, renewIntervalMs, takeoverMs } = this.options
    await records.removeBefore(epoch).catch((error: unknown) => logger.warn('older leases were not removed', { error: String(error) }))
    for (let renewals = 1; !this.ended.signal.aborted; renewals++) {
      try {
        await this.check()
        const at = this.now()
        await records.renew(epoch, { holder, renewals, isReleased: false, takeoverMs })
        this.renewedAt = at
      } catch (error) {
        if (isMoonlinkError(error, 'fenced')) return
        logger.warn('the lease could not be renewed; tried again', { error: String(error) })
      }
      await clock.sleep(renewIntervalMs, this.ended.signal).catch(() => undefined)
    }
  }

  private lose(successor: string): void {
    const message = `${successor} has taken over this mirror, since this backend did not renew its lease in time; this one stops.`
    this.lost = new MoonlinkError('fenced', 'LEASE_LOST', message, { context: { epoch: this.epoch } })
    this.options.logger.error(message, { code: 'LEASE_LOST' })
    this.ended.abort(this.lost)
    for (const listener of this.listeners.splice(0)) listener(this.lost)
  }
}
