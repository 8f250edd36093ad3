/**
 * What becomes of one call.
 * - `pass`: nothing special;
 * - `fail`: nothing is done, and the call throws;
 * - `lose answer`: it is done, and the call throws all the same;
 * - `late`: the call throws, and what it should have done happens `lateByMs` afterwards, as when a connection breaks with the request on
 *   its way.
 *
 * Of reads, a list whose answer is lost or late ends after its first object, as between two pages; any other fails.
 */
export type Fate = 'pass' | 'fail' | 'lose answer' | 'late'

export interface Fault {
  readonly fate: Fate
  /** How long the call takes before anything else. */
  readonly latencyMs: number
  readonly lateByMs?: number
}

export type StoreOperation = 'get' | 'head' | 'put' | 'putIfAbsent' | 'list' | 'delete'

export interface StoreCall {
  readonly operation: StoreOperation
  /** The object's URI, or the prefix of a list. */
  readonly uri: string
  /** How many calls the store had before this one. */
  readonly index: number
}

/** Decides each call's fate, in the order the calls are made. */
export type FaultPlan = (call: StoreCall) => Fault

export interface SeededFaultOptions {
  readonly seed: number
  /** Shares of calls, each from 0 to 1. Default: 0. */
  readonly fail?: number
  readonly loseAnswer?: number
  readonly late?: number
  /** Each call takes from 0 to this, evenly. Default: 0 ms. */
  readonly maxLatencyMs?: number
  /** A late effect comes after 0 to this, evenly. Default: 1,000 ms. */
  readonly maxLateByMs?: number
  /** Only these operations fail; the others only take their time. Default: all. */
  readonly operations?: readonly StoreOperation[]
}

/** A plan that gives the same fates to the same sequence of calls for the same seed. */
export function seededFaults(options: SeededFaultOptions): FaultPlan {
  const next = mulberry32(options.seed)
  const { fail = 0, loseAnswer = 0, late = 0, maxLatencyMs = 0, maxLateByMs = 1000, operations } = options
  return ({ operation }) => {
    // Always three draws a call, so that one option does not shift the fates of later calls.
    const [draw, latencyMs, lateByMs] = [next(), next() * maxLatencyMs, next() * maxLateByMs]
    if (operations !== undefined && !operations.includes(operation)) return { fate: 'pass', latencyMs }
    if (draw < fail) return { fate: 'fail', latencyMs }
    if (draw < fail + loseAnswer) return { fate: 'lose answer', latencyMs }
    if (draw < fail + loseAnswer + late) return { fate: 'late', latencyMs, lateByMs }
    return { fate: 'pass', latencyMs }
  }
}

/** Mulberry32, a small generator of evenly spread numbers in [0, 1) from 32 bits of state. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
