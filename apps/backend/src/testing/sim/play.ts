import type { Logger } from '@moonlink/core'
import type { SimTotals } from './sim-totals.ts'
import { SimWorld } from './sim-world.ts'

/** Plays the world of one seed to its end. Throws what does not hold in it. */
export async function playSeed(seed: number, totals: SimTotals, logger: Logger): Promise<void> {
  const world = new SimWorld(seed, totals, logger)
  try {
    const steps = world.profile.minSteps + world.dice.below(world.profile.moreSteps)
    for (let step = 0; step < steps; step++) await world.step()
    await world.finish()
  } finally {
    world.dispose()
  }
}

/** How a seed that failed is played again, with what its nodes say. */
export function replayCommand(seed: number): string {
  const profile = process.env['MOONLINK_SIM_PROFILE']
  const variables = `${profile === undefined ? '' : `MOONLINK_SIM_PROFILE=${profile} `}MOONLINK_SIM_SEED=${seed} MOONLINK_SIM_RUNS=1 MOONLINK_SIM_LOG=1`
  return `${variables} npx -y pnpm@12 exec vitest run --project sim apps/backend/src/node.sim.test.ts`
}
