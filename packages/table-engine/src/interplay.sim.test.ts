import { loadRoaring } from '@moonlink/deletion-log'
import fc from 'fast-check'
import { beforeAll, describe, test } from 'vitest'
import { Run, schemas } from './engine-run.test.support.ts'
import { stepAmidPauses } from './engine-steps.test.support.ts'
import { simulatedRuns } from './testing/simulated.ts'

beforeAll(() => loadRoaring())

describe.each(Object.entries(schemas))('a mirror with %s', (_, schema) => {
  test('shows what the source had, whatever it is paused and made equal to its source amid', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(stepAmidPauses, { minLength: 5, maxLength: 120 }), async (steps) => {
        const run = new Run(schema)
        await run.start()
        for (const next of steps) await run.do(next)
        await run.finish()
      }),
      { ...simulatedRuns(100), timeout: 3000 },
    )
  })
})
