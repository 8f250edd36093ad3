import type { MoonlinkError } from '../errors.ts'

/** Who holds a lease. */
export interface LeaseHolder {
  /** One process's, and no other's. */
  readonly id: string
  /** Something else keeps two processes of one home from running at once, so that a holder of our home other than ourselves is dead. */
  readonly home: string
  /** For people: where it runs. */
  readonly name: string
}

/**
 * A right that one process at a time holds. A lease can be lost without being told, as by a process that was paused: so what must not
 * happen after a successor began is written first and counts once `check` has resolved after it.
 */
export interface Lease {
  /** Greater than that of every holder before. */
  readonly epoch: number
  /** The holder before, where it did not give the lease back: it may be paused rather than dead. */
  readonly predecessor: LeaseHolder | null
  /**
   * Resolves where nobody had taken over when it was called: a successor finds whatever was written before that. Throws `fenced`/`LEASE_LOST`, naming the
   * successor, or `retry` where it can't be told now.
   */
  check(): Promise<void>
  /**
   * Resolves where nobody else can have been the holder by the time it was called: for answers that claim to be the latest. Costs nothing while the last renewal is recent,
   * else a `check`. Throws `fenced`/`LEASE_LOST`, or `retry`/`LEASE_UNCERTAIN` where it can't be told now.
   */
  requireCurrent(): Promise<void>
  /** Calls `listener` once, soon after another has taken over. */
  onLost(listener: (error: MoonlinkError) => void): void
  /** Gives it back: the next one need not wait. Fine to call again, and after it was lost. */
  release(): Promise<void>
}

export interface AcquireOptions {
  /** Waits until the holder is gone, rather than throw `retry`/`LEASE_HELD`. */
  readonly waits: boolean
  /** Ends the waiting; `acquire` then throws the signal's reason. */
  readonly signal?: AbortSignal
  /** Told whom it waits for, whenever that changes. */
  readonly onWaiting?: (holder: LeaseHolder) => void
}

/** A place where one lease is kept. */
export interface LeasePlace {
  /**
   * Takes the lease where it is free: never held, given back, held by an earlier life of ours, or not renewed for as long as is agreed. To tell the
   * last takes that long. Of several callers at once exactly one gets it.
   */
  acquire(options: AcquireOptions): Promise<Lease>
}
