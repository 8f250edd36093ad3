import fc from 'fast-check'
import type { Reshape } from './testing/reshapes.ts'

export type Step =
  | { kind: 'insert'; key: number; text: string }
  | { kind: 'update'; at: number; text: string; unchanged: boolean }
  | { kind: 'move'; at: number; key: number }
  | { kind: 'delete'; at: number }
  | { kind: 'truncate' }
  | Reshape
  | { kind: 'write early' | 'write early beside' | 'memory is short' }
  | { kind: 'commit' | 'send' | 'flush' | 'flush beside' | 'tick' | 'read' | 'restart' | 'lost stream' | 'pass time' }
  | { kind: 'pause' | 'pause beside' | 'resync' | 'send beside' }
  | { kind: 'fail before' | 'fail after' | 'fail late' | 'deliver late' | 'fail settle' }

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('insert' as const), key: fc.nat(12), text: fc.string({ maxLength: 14 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('update' as const),
      at: fc.nat(),
      text: fc.string({ maxLength: 14 }),
      unchanged: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('move' as const), at: fc.nat(), key: fc.nat(12) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'truncate' }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('add column', 'add column', 'drop column', 'rename column', 'widen column', 'change key'),
      at: fc.nat(),
    }),
  },
  { weight: 5, arbitrary: fc.constant<Step>({ kind: 'commit' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ kind: 'send' }) },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: 'flush' }) },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: 'flush beside' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'tick' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'pass time' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ kind: 'read' }) },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: 'write early' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'write early beside' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'memory is short' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'restart' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'lost stream' }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('fail before', 'fail after', 'fail late', 'deliver late', 'fail settle') }),
  },
)

/** And what pauses the table, makes it equal to its source again, and lets changes come beside all else. */
export const stepAmidPauses: fc.Arbitrary<Step> = fc.oneof(
  { weight: 50, arbitrary: step },
  { weight: 2, arbitrary: fc.constantFrom<Step>({ kind: 'pause' }, { kind: 'pause beside' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ kind: 'resync' }) },
  { weight: 4, arbitrary: fc.constant<Step>({ kind: 'send beside' }) },
)
