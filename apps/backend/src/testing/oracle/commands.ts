import fc from 'fast-check'
import { tableShapes, type TableShape } from './tables.ts'

export type SessionStep = 'savepoint' | 'back to savepoint' | 'commit' | 'roll back' | 'prepare'

/** One step of a run. Steps that name a session or a table do so by a number, so that any of them can be left out. */
export type Command =
  | { readonly kind: 'statement'; readonly session: number; readonly table: number; readonly seed: number; readonly begins: boolean }
  /** A change of schema. */
  | { readonly kind: 'alter'; readonly session: number; readonly table: number; readonly seed: number; readonly begins: boolean }
  | { readonly kind: SessionStep; readonly session: number; readonly seed: number }
  /** What was prepared ends, in whatever order. */
  | { readonly kind: 'commit prepared' | 'roll back prepared'; readonly seed: number }
  /** Every session changes tables at the same time; only what they show after the last commit is compared. */
  | { readonly kind: 'burst'; readonly seed: number }
  /** Reads of a sample of what is held. */
  | { readonly kind: 'check'; readonly seed: number }
  | { readonly kind: 'flush' | 'flush beside' | 'pass time' | 'cut stream' }
  /** Postgres crashes and recovers: open transactions are gone, prepared ones are not. */
  | { readonly kind: 'crash Postgres' }
  /** The mirror is told to compare a table. */
  | { readonly kind: 'resync'; readonly table: number }
  | { readonly kind: 'stop'; readonly signal: 'SIGTERM' | 'SIGKILL'; readonly seed: number }

/** Whether schemas change: never, told by event triggers, or found by what rows and the catalog say of them. */
export type SchemaChanges = 'none' | 'told' | 'found'

export interface Settings {
  readonly flushIntervalMs: number
  readonly flushRows: number
  readonly compactionMinFiles: number
  readonly expiryMinSnapshots: number
  readonly expiryMaxAgeMs: number
  readonly timeAs: 'string' | 'time'
  /** Prepared transactions come when they are prepared; from Postgres 15 on. */
  readonly twoPhase: boolean
}

export interface Scenario {
  readonly schemaChanges: SchemaChanges
  readonly tables: readonly TableShape[]
  /** Where schemas change: a partitioned table more, made from this seed. */
  readonly partitioned: number | null
  /** A publication that is there before, with a table that it filters, made from this seed; null where the mirror makes one. */
  readonly given: number | null
  /** Where event triggers tell of changes, triggers on partitions tell of truncations. */
  readonly tellsTruncations: boolean
  readonly settings: Settings
  readonly commands: readonly Command[]
}

export const SESSIONS = 3

const session = fc.nat(SESSIONS - 1)
const seed = fc.integer()
const begins = fc.nat(2).map((drawn) => drawn === 0)
const sessionStep = (kind: SessionStep) => fc.record({ kind: fc.constant(kind), session, seed })

const alter: fc.WeightedArbitrary<Command> = {
  weight: 40,
  arbitrary: fc.record({ kind: fc.constant('alter' as const), session, table: fc.nat(7), seed, begins }),
}

const commands: readonly fc.WeightedArbitrary<Command>[] = [
  { weight: 60, arbitrary: fc.record({ kind: fc.constant('statement' as const), session, table: fc.nat(7), seed, begins }) },
  { weight: 5, arbitrary: sessionStep('savepoint') },
  { weight: 4, arbitrary: sessionStep('back to savepoint') },
  { weight: 18, arbitrary: sessionStep('commit') },
  { weight: 2, arbitrary: sessionStep('roll back') },
  { weight: 4, arbitrary: sessionStep('prepare') },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('commit prepared' as const), seed }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('roll back prepared' as const), seed }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash Postgres' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('burst' as const), seed }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('check' as const), seed }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constantFrom('flush' as const, 'flush beside' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('pass time' as const, 'cut stream' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resync' as const), table: fc.nat(7) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('stop' as const), signal: fc.constantFrom('SIGTERM' as const, 'SIGKILL' as const), seed }),
  },
]

const settings: fc.Arbitrary<Settings> = fc.record({
  flushIntervalMs: fc.constantFrom(100, 3_600_000),
  flushRows: fc.constantFrom(20, 500_000),
  compactionMinFiles: fc.integer({ min: 2, max: 5 }),
  expiryMinSnapshots: fc.integer({ min: 1, max: 6 }),
  expiryMaxAgeMs: fc.constantFrom(1, 3_600_000),
  timeAs: fc.constantFrom('string', 'time'),
  twoPhase: fc.boolean(),
})

export function scenarios(schemaChanges: SchemaChanges): fc.Arbitrary<Scenario> {
  const changes = schemaChanges !== 'none'
  const command = fc.oneof(...commands, ...(changes ? [alter] : []))
  const size = changes ? { minLength: 25, maxLength: 60 } : { minLength: 40, maxLength: 110 }
  return fc.record({
    schemaChanges: fc.constant(schemaChanges),
    tables: changes ? tableShapes.map((tables) => tables.slice(0, 2)) : tableShapes,
    partitioned: changes ? fc.integer() : fc.constant(null),
    given: changes
      ? fc.tuple(fc.integer(), fc.boolean()).map(([seed, isOther]) => (isOther === (schemaChanges === 'told') ? null : seed))
      : fc.constant(null),
    tellsTruncations: schemaChanges === 'told' ? fc.boolean() : fc.constant(false),
    settings,
    commands: fc.array(command, { ...size, size: 'max' }),
  })
}
