import { parseLsn } from '@moonlink/core'
import { expect, test } from 'vitest'
import { deadRows } from './dead-rows.ts'
import { liveRows } from './live-rows.ts'
import type { TablePlan } from './plan.ts'

const log = { segments: [1, 2, 1, 3, 1], rows: [4, 0, 5, 1, 6] }

function planUpTo(endSeq: number): TablePlan {
  return {
    table: { schema: 'public', name: 't' },
    schema: { fields: [], identifierFieldIds: [] },
    lsn: parseLsn('0/0'),
    incarnation: 'one',
    files: [],
    memory: [],
    deletes: {
      firstSeq: 10,
      endSeq,
      // In parts of two entries.
      *chunks(from, to) {
        for (let at = from; at < to; at += 2) {
          const [start, end] = [at - 10, Math.min(at + 2, to) - 10]
          const segments = Uint32Array.from(log.segments.slice(start, end))
          yield { firstSeq: at, segments, rows: Uint32Array.from(log.rows.slice(start, end)) }
        }
      },
      base: (segment) => Uint32Array.from(segment === 1 ? [0, 9] : []),
      moved: (segment) => ({
        rows: Uint32Array.from(segment === 2 ? [2, 3] : []),
        seqs: Float64Array.from(segment === 2 ? [9, 12] : []),
      }),
    },
  }
}

test('live rows are all but the dead, at every end of the log', () => {
  for (let endSeq = 10; endSeq <= 15; endSeq++) {
    const plan = planUpTo(endSeq)
    const segments = [1, 2, 3, 4].map((segment) => ({ segment, rowCount: 10 }))
    for (const [segment, live] of liveRows(plan, segments)) {
      const dead = Array.from(live.keys()).filter((row) => live[row] === 0)
      expect(dead).toEqual([...deadRows(plan, segment)])
    }
  }
  expect([...liveRows(planUpTo(15), [{ segment: 1, rowCount: 10 }]).get(1)!]).toEqual([0, 1, 1, 1, 0, 0, 0, 1, 1, 0])
})
