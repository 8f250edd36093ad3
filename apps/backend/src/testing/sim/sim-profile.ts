import { defaultEngineLimits, type EngineLimits } from '@moonlink/table-engine'
import type { Dice } from './random.ts'

/** What a world is like, besides what goes wrong in it. */
export interface SimProfile {
  readonly limits: EngineLimits
  readonly segmentBytes: number
  readonly logBytes: number
  readonly maxChanges: number
  /** Share of transactions that are large, and how large. */
  readonly largeShare: number
  readonly largeChanges: number
  readonly alterShare: number
  /** Share of steps at which somebody pauses, resyncs, drops or adds a table. */
  readonly commandShare: number
  readonly killShare: number
  readonly stopShare: number
  readonly stillShare: number
  readonly resumeShare: number
  readonly slotShare: number
  readonly failing: number
  readonly crashCalls: number
  readonly minSteps: number
  readonly moreSteps: number
}

const usual: SimProfile = {
  limits: {
    ...defaultEngineLimits,
    flushRows: 40,
    copyFileBytes: 64,
    flushIntervalMs: 400,
    compaction: { ...defaultEngineLimits.compaction, minFiles: 3 },
    expiry: { minSnapshots: 2, maxAgeMs: 2000, intervalMs: 700 },
  },
  segmentBytes: 2000,
  logBytes: 20_000,
  maxChanges: 5,
  largeShare: 0,
  largeChanges: 0,
  alterShare: 0.08,
  commandShare: 0,
  killShare: 0,
  stopShare: 0,
  stillShare: 0,
  resumeShare: 0,
  slotShare: 0,
  failing: 0.03,
  crashCalls: 500,
  minSteps: 40,
  moreSteps: 80,
}

const profiles: Record<string, (dice: Dice) => Partial<SimProfile>> = {
  usual: () => ({}),
  commands: () => ({ commandShare: 0.08 }),
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
    limits: { ...usual.limits, flushRows: 4000, flushIntervalMs: 60_000, copyFileBytes: 500, expiry: { minSnapshots: 5, maxAgeMs: 100_000, intervalMs: 700 } },
    segmentBytes: 2000,
    logBytes: 40_000,
  }),
  violent: (dice) => ({ crashCalls: 20 + dice.below(150), failing: 0.03 + dice.next() * 0.1, killShare: 0.05, stopShare: 0.02 }),
  flaky: (dice) => ({ crashCalls: 2000, failing: 0.05 + dice.next() * 0.15 }),
  takeovers: () => ({ stillShare: 0.1, resumeShare: 0.05, killShare: 0.02 }),
  alters: () => ({ alterShare: 0.5 }),
  slots: () => ({ slotShare: 0.06, commandShare: 0.02 }),
  long: () => ({ minSteps: 500, moreSteps: 500 }),
}

export function profileOf(dice: Dice): SimProfile {
  const names = (process.env['MOONLINK_SIM_PROFILE'] ?? 'usual').split('+').map((name) => {
    const all = Object.keys(profiles)
    return name === 'any' ? all[dice.below(all.length)] : name
  })
  return names.reduce<SimProfile>((profile, name) => ({ ...profile, ...profiles[name](dice) }), usual)
}
