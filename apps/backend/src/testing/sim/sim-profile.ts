import { defaultEngineLimits, type EngineLimits } from '@moonlink/table-engine'
import type { Dice } from './random.ts'

/** What a world is like, besides what goes wrong in every one. Shares are of its steps, unless they say otherwise. */
export interface SimProfile {
  readonly limits: EngineLimits
  readonly segmentBytes: number
  readonly logBytes: number
  /** A transaction takes as many bytes of the log, at least. */
  readonly transactionBytes: number
  /** Bytes of each machine's disk. */
  readonly diskBytes: number
  /** Changes of a table in a transaction, at most. */
  readonly maxChanges: number
  /** Share of transactions that leave one table as it is, besides those that do so anyway. */
  readonly aloneShare: number
  /** Share of transactions that are large, and of how many changes those are at most. */
  readonly largeShare: number
  readonly largeChanges: number
  /** Share of transactions that change a table's shape, truncate or rewrite it, where anything does in this world. */
  readonly alterShare: number
  /** Somebody pauses, resyncs, drops or adds a table. */
  readonly commandShare: number
  /** Share of commands that purge a table, or add one. */
  readonly purgeShare: number
  /** Share of a transaction's tables that it drops, of which some are made anew, at once or later. */
  readonly remakeShare: number
  /** A process dies, besides those that do at one of their calls. */
  readonly killShare: number
  /** A server goes away for a while. */
  readonly outageShare: number
  /** The files of a table may not be written, or may again. */
  readonly denialShare: number
  readonly stopShare: number
  readonly stillShare: number
  /** A standby takes over from a node that lives, where there are two. */
  readonly deposeShare: number
  readonly resumeShare: number
  /** The slot is dropped or invalidated. */
  readonly slotShare: number
  /** A standby is promoted, besides those that are in some of all worlds. */
  readonly failoverShare: number
  /** Share of calls that fail, where any does. */
  readonly failing: number
  /** A process that dies at a call does so at one of the first so many. */
  readonly crashCalls: number
  readonly minSteps: number
  readonly moreSteps: number
}

/** How much later than it failed a request may be carried out. */
export const LATE_MS = 1900

const usual: SimProfile = {
  limits: {
    ...defaultEngineLimits,
    flushRows: 40,
    copyFileBytes: 64,
    flushIntervalMs: 400,
    compaction: { ...defaultEngineLimits.compaction, minFiles: 3 },
    expiry: { minSnapshots: 2, maxAgeMs: 2000, intervalMs: 700 },
    lateWriteMs: LATE_MS + 100,
  },
  segmentBytes: 2000,
  logBytes: 20_000,
  transactionBytes: 0,
  diskBytes: Number.POSITIVE_INFINITY,
  maxChanges: 5,
  aloneShare: 0,
  largeShare: 0,
  largeChanges: 0,
  alterShare: 0.08,
  commandShare: 0,
  purgeShare: 0,
  remakeShare: 0,
  killShare: 0,
  outageShare: 0,
  denialShare: 0,
  stopShare: 0,
  stillShare: 0,
  deposeShare: 0.02,
  resumeShare: 0,
  slotShare: 0,
  failoverShare: 0,
  failing: 0.03,
  crashCalls: 500,
  minSteps: 40,
  moreSteps: 80,
}

const profiles: Record<string, (dice: Dice) => Partial<SimProfile>> = {
  usual: () => ({}),
  commands: () => ({ commandShare: 0.08 }),
  purges: (dice) => ({ commandShare: 0.12, purgeShare: 0.7, crashCalls: 100 + dice.below(400), killShare: 0.02 }),
  memory: (dice) => ({
    limits: {
      ...usual.limits,
      memoryLimitBytes: 130_000 + dice.below(150_000),
      earlyFileBytes: 50 + dice.below(800),
      flushBytes: 300 + dice.below(4000),
      flushIntervalMs: 400 + dice.below(4000),
    },
    logBytes: 200_000,
    largeShare: 0.15,
    largeChanges: 500,
  }),
  tiny: (dice) => ({
    limits: {
      ...usual.limits,
      flushRows: 1 + dice.below(6),
      flushDeletes: 1 + dice.below(6),
      flushIntervalMs: 50,
      copyFileBytes: 16,
      compaction: { ...usual.limits.compaction, minFiles: 2, maxDeadRatio: 0.1 },
      expiry: { minSnapshots: 1, maxAgeMs: 100, intervalMs: 100 },
    },
    segmentBytes: 300,
    logBytes: 3000,
  }),
  lazy: () => ({
    limits: {
      ...usual.limits,
      flushRows: 4000,
      flushIntervalMs: 60_000,
      copyFileBytes: 500,
      expiry: { minSnapshots: 5, maxAgeMs: 100_000, intervalMs: 700 },
    },
    segmentBytes: 2000,
    logBytes: 40_000,
  }),
  violent: (dice) => ({ crashCalls: 20 + dice.below(150), failing: 0.03 + dice.next() * 0.1, killShare: 0.05, stopShare: 0.02 }),
  flaky: (dice) => ({ crashCalls: 2000, failing: 0.05 + dice.next() * 0.15 }),
  takeovers: () => ({ deposeShare: 0.1, stillShare: 0.1, resumeShare: 0.05, killShare: 0.02 }),
  // What the log lets go of is needed by nobody who knows that the still table has all.
  still: (dice) => ({
    limits: { ...usual.limits, flushRows: 1 + dice.below(4), flushIntervalMs: 50 },
    segmentBytes: 300,
    logBytes: dice.chance(0.5) ? 3000 : 20_000,
    aloneShare: 0.95,
    deposeShare: 0.1,
    crashCalls: 3000,
    failing: 0.01,
  }),
  // The log would take more than its disk has.
  disk: (dice) => ({
    segmentBytes: 50_000 + dice.below(100_000),
    logBytes: 1_000_000_000,
    transactionBytes: 50_000 + dice.below(100_000),
    diskBytes: 800_000 + dice.below(400_000),
    outageShare: 0.04,
  }),
  alters: () => ({ alterShare: 0.5 }),
  remakes: (dice) => ({
    remakeShare: 0.02 + dice.next() * 0.06,
    killShare: dice.chance(0.5) ? 0.03 : 0,
    commandShare: dice.chance(0.3) ? 0.03 : 0,
  }),
  outages: () => ({ outageShare: 0.04, commandShare: 0.04 }),
  denials: (dice) => ({
    limits: { ...usual.limits, flushIntervalMs: 100 + dice.below(300) },
    denialShare: 0.02 + dice.next() * 0.05,
    commandShare: dice.chance(0.3) ? 0.01 : 0,
    logBytes: 3000 + dice.below(20_000),
    crashCalls: 6000,
    failing: 0.01,
    minSteps: 200,
    moreSteps: 200,
  }),
  slots: () => ({ slotShare: 0.06, commandShare: 0.02 }),
  failovers: () => ({ failoverShare: 0.06, commandShare: 0.02, killShare: 0.02 }),
  long: () => ({ minSteps: 500, moreSteps: 500 }),
}

/** Of a hundred worlds; the others are usual ones, and long ones are played where they are named. */
const drawn: readonly (readonly [string, number])[] = [
  ['commands', 8],
  ['tiny', 3],
  ['lazy', 2],
  ['violent', 2],
  ['flaky', 2],
  ['takeovers', 2],
  ['alters', 2],
  ['slots', 2],
  ['memory', 1],
  ['outages', 5],
  ['disk', 2],
  ['failovers', 4],
  ['denials', 4],
  ['purges', 4],
  ['remakes', 4],
  ['still', 3],
]

function draw(dice: Dice): string {
  let left = dice.below(100)
  for (const [name, share] of drawn) {
    left -= share
    if (left < 0) return name
  }
  return 'usual'
}

/** Of the seed's choice, or as `MOONLINK_SIM_PROFILE` says: names joined by `+`. */
export function profileOf(dice: Dice): SimProfile {
  const names = process.env['MOONLINK_SIM_PROFILE']?.split('+') ?? [draw(dice)]
  return names.reduce<SimProfile>((profile, name) => {
    const change = profiles[name]
    if (change === undefined) throw new Error(`no profile ${name}; there are ${Object.keys(profiles).join(', ')}`)
    return { ...profile, ...change(dice) }
  }, usual)
}
