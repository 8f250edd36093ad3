/** What became of a run, so that many runs together can be seen to have tried something. */
export interface SimTotals {
  crashes: number
  latest: number
  past: number
  /** Leases that were held for a while, and read again. */
  slowReads: number
  rangesResumed: number
  takeovers: number
  /** Takeovers from a node that lives. */
  depositions: number
  resyncs: number
  atRest: number
  /** Calls of local disks and requests to a catalog that went wrong, threads that ended, writes that found the store full, and bits that flipped. */
  diskErrors: number
  requestFaults: number
  clocksSet: number
  lostThreads: number
  refusedWrites: number
  flippedBits: number
  slotsLost: number
  /** Failovers in all, and those to a primary that lacked something that was told. */
  failovers: number
  outages: number
  denials: number
  divergences: number
  /** Tables that were dropped, and made anew under their names. */
  remakes: number
}

export function noTotals(): SimTotals {
  return {
    crashes: 0,
    latest: 0,
    past: 0,
    slowReads: 0,
    rangesResumed: 0,
    takeovers: 0,
    depositions: 0,
    resyncs: 0,
    atRest: 0,
    diskErrors: 0,
    requestFaults: 0,
    clocksSet: 0,
    lostThreads: 0,
    refusedWrites: 0,
    flippedBits: 0,
    slotsLost: 0,
    failovers: 0,
    outages: 0,
    denials: 0,
    divergences: 0,
    remakes: 0,
  }
}
