import {
  isMoonlinkError,
  MoonlinkError,
  silentLogger,
  systemClock,
  type AcquireOptions,
  type Clock,
  type Lease,
  type LeaseHolder,
  type LeasePlace,
  type Logger,
  type ObjectStore,
} from '@moonlink/core'
import { HeldLease, type Instant } from './held-lease.ts'
import { LeaseRecords, type LeaseRecord } from './lease-records.ts'

export interface ObjectLeaseOptions {
  readonly store: ObjectStore
  /** URI that ends with `/`; only leases are below it. */
  readonly prefix: string
  readonly holder: LeaseHolder
  readonly clock?: Clock
  readonly logger?: Logger
  /** Time between two renewals, and between two looks at somebody else's, in milliseconds. Default 1000. */
  readonly renewIntervalMs?: number
  /** A holder that has not renewed for so long is taken for dead, in milliseconds of the one that waits. Default 5000. */
  readonly takeoverMs?: number
  /** Milliseconds since any moment, by a clock that nobody sets. Default: the system's. */
  readonly monotonicMs?: () => number
}

const LONG_AGO: Instant = { wallMs: Number.NEGATIVE_INFINITY, monotonicMs: Number.NEGATIVE_INFINITY }

/**
 * A lease in an object store with conditional puts. Nobody's clock is compared with anybody else's: whoever waits measures for how long the holder's
 * record has stood still. A holder that is only slow may so be taken over; it then finds out by `Lease.check`.
 */
export class ObjectLease implements LeasePlace {
  private readonly options: Required<ObjectLeaseOptions>
  private readonly records: LeaseRecords

  constructor(options: ObjectLeaseOptions) {
    const { clock = systemClock, logger = silentLogger, renewIntervalMs = 1000, takeoverMs = 5000 } = options
    const { monotonicMs = () => performance.now() } = options
    this.options = { ...options, clock, logger, renewIntervalMs, takeoverMs, monotonicMs }
    this.records = new LeaseRecords(options.store, options.prefix)
  }

  async acquire({ waits, signal, onWaiting }: AcquireOptions): Promise<Lease> {
    const { clock, renewIntervalMs } = this.options
    const watch = new HolderWatch(this.options)
    for (;;) {
      signal?.throwIfAborted()
      const lease = await this.look(watch, waits, onWaiting).catch((error: unknown) => {
        if (!waits || !isMoonlinkError(error, 'retry')) throw error
        // Nothing is known of the holder while the store does not answer.
        watch.forget()
        this.options.logger.warn('the lease could not be read; tried again', { code: error.code, error: error.message })
        return null
      })
      if (lease !== null) return lease
      await clock.sleep(Math.min(renewIntervalMs, watch.remainingMs), signal)
    }
  }

  /** Looks once, and takes the lease where it is free. */
  private async look(watch: HolderWatch, waits: boolean, onWaiting: AcquireOptions['onWaiting']): Promise<Lease | null> {
    const { clock, holder, monotonicMs, takeoverMs } = this.options
    const lookedAt = { wallMs: clock.nowMs(), monotonicMs: monotonicMs() }
    const newest = await this.records.newestEpoch()
    const record = newest === 0 ? null : await this.records.read(newest)
    // A claim whose answer was lost. Others may have seen it for long.
    if (record?.holder.id === holder.id && !record.isReleased) return this.held(newest, watch.predecessor, LONG_AGO)
    // Removed since we looked: there is a newer one.
    if (record === null && newest > 0) return null
    const isDead = record !== null && record.holder.home === holder.home
    if (record === null || record.isReleased || isDead || watch.isStill(newest, record)) {
      watch.predecessor = record === null || record.isReleased ? null : record.holder
      if ((await this.records.claim(newest + 1, holder, takeoverMs)) === 'exists') return null
      // Where we were away since we looked, others may have come and gone on, and our name be free again.
      if ((await this.records.newestEpoch()) > newest + 1) return null
      return this.held(newest + 1, watch.predecessor, lookedAt)
    }
    if (!waits && watch.isAlive) throw heldBy(record.holder)
    if (watch.isNew) onWaiting?.(record.holder)
    return null
  }

  private held(epoch: number, predecessor: LeaseHolder | null, claimedAt: Instant): Lease {
    const { records } = this
    return new HeldLease({ ...this.options, records, epoch, predecessor, claimedAt })
  }
}

/** For how long somebody's record has stood still, as far as it was seen. */
class HolderWatch {
  private readonly options: { readonly clock: Clock; readonly renewIntervalMs: number; readonly takeoverMs: number }
  private seen = ''
  private seenHolder = ''
  private lookedAtMs = 0
  /** Whose lease was claimed last. */
  predecessor: LeaseHolder | null = null
  private stillMs = 0
  /** After which it has stood still for long enough, where it goes on to. */
  remainingMs = Number.POSITIVE_INFINITY
  /** The record was seen to change: its holder lives. */
  isAlive = false
  /** Another holder than at the last look. */
  isNew = false

  constructor(options: HolderWatch['options']) {
    this.options = options
  }

  isStill(epoch: number, { holder, renewals, takeoverMs: promisedMs }: LeaseRecord): boolean {
    const { clock, renewIntervalMs, takeoverMs } = this.options
    const state = `${epoch} ${renewals}`
    const nowMs = clock.nowMs()
    // A clock that is set, or a pause of our own, counts as one interval at most.
    const passedMs = Math.min(Math.max(0, nowMs - this.lookedAtMs), 2 * renewIntervalMs)
    this.isNew = this.seenHolder !== holder.id
    this.isAlive = !this.isNew && this.seen !== state
    this.stillMs = this.seen === state ? this.stillMs + passedMs : 0
    this.seen = state
    this.seenHolder = holder.id
    this.lookedAtMs = nowMs
    const patienceMs = Math.max(takeoverMs, promisedMs)
    this.remainingMs = Math.max(1, patienceMs - this.stillMs)
    return this.stillMs >= patienceMs
  }

  forget(): void {
    this.seen = ''
    this.stillMs = 0
    this.remainingMs = Number.POSITIVE_INFINITY
  }
}

function heldBy({ name }: LeaseHolder): MoonlinkError {
  const message = `this mirror is run by ${name}; stop that backend, or start this one with --standby to take over when it ends.`
  return new MoonlinkError('retry', 'LEASE_HELD', message, { context: { holder: name } })
}
