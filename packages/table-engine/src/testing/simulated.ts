import { SimulatedLocalDisk } from '@moonlink/testkit'

/** A fixed seed in CI, so that a change does not fail for what it did not bring. */
const CI_SEED = 620_604_485

/** A disk in memory, so that no simulation waits for a real one. */
export const simulatedDisk = () => new SimulatedLocalDisk({ next: () => 0.5 })

/** For one engine: of a disk of its own, or what another left. */
export function simulatedIndexes(disk = simulatedDisk()) {
  return { disk: disk.session(), indexDirectory: '/index' }
}

/** How often a property is tried, and from which seed; `MOONLINK_SIM_RUNS` and `MOONLINK_SIM_SEED` say otherwise. */
export function simulatedRuns(numRuns: number): { readonly numRuns: number; readonly seed?: number } {
  const { CI, MOONLINK_SIM_RUNS: runs, MOONLINK_SIM_SEED: seed } = process.env
  const chosen = seed !== undefined ? Number(seed) : CI !== undefined ? CI_SEED : undefined
  return { numRuns: runs === undefined ? numRuns : Number(runs), ...(chosen === undefined ? {} : { seed: chosen }) }
}
