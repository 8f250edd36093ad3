import { silentLogger, systemClock, type Logger } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { beforeAll, expect, test } from 'vitest'
import { playSeed } from './testing/sim/play.ts'
import { noTotals } from './testing/sim/sim-totals.ts'

/**
 * Whole nodes in simulation: real backends, change logs, leases, Iceberg tables, key indexes and deletion vectors, on a database, a disk, a store, a catalog, threads and a clock that
 * are simulated, fail, are late and forget. MOONLINK_SIM_RUNS for more runs, MOONLINK_SIM_SEED for one that failed: it comes out the same; MOONLINK_SIM_LOG=1 for what
 * the nodes say in it, =calls for what is done to the store too.
 */
const runs = Number(process.env['MOONLINK_SIM_RUNS'] ?? 120)
/** The same in CI, so that a change does not fail for what it did not bring. */
const defaultSeed = process.env['CI'] === undefined ? Math.floor(systemClock.nowMs() % 1_000_000_000) : 620_604_485
const firstSeed = Number(process.env['MOONLINK_SIM_SEED'] ?? defaultSeed)

/** So many are told of. */
const MAX_FAILURES = 10

beforeAll(() => loadRoaring())

const printing: Logger = {
  debug: (message, fields) => {
    if (process.env['MOONLINK_SIM_LOG'] === 'calls') console.log('     ', message, JSON.stringify(fields ?? {}))
  },
  info: (message, fields) => console.log('info', message, JSON.stringify(fields)),
  warn: (message, fields) => console.log('warn', message, JSON.stringify(fields)),
  error: (message, fields) => console.log('error', message, JSON.stringify(fields)),
}
const logger = process.env['MOONLINK_SIM_LOG'] === undefined ? silentLogger : printing

test(`${runs} nodes that crash at any call lose and repeat nothing (first seed ${firstSeed})`, { timeout: 600_000 }, async () => {
  const totals = noTotals()
  const failures: Error[] = []
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
    if (logger !== silentLogger) console.log(`seed ${seed}`)
    try {
      await playSeed(seed, totals, logger)
    } catch (error) {
      if (logger !== silentLogger) console.log(`seed ${seed} failed: ${(error as Error).message}`)
      failures.push(new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error }))
      if (failures.length === MAX_FAILURES) break
    }
  }
  if (logger !== silentLogger) console.log(totals)
  if (failures.length > 0) throw new AggregateError(failures, failures.map(({ message }) => message).join('\n'))
  // Runs in which nothing happened would prove nothing.
  if (runs < 100) return
  expect(totals.crashes).toBeGreaterThan(runs / 2)
  expect(totals.latest).toBeGreaterThan(runs / 2)
  expect(totals.past).toBeGreaterThan(runs / 2)
  expect(totals.slowReads).toBeGreaterThan(0)
  expect(totals.rangesResumed).toBeGreaterThan(0)
  expect(totals.takeovers).toBeGreaterThan(runs / 4)
  expect(totals.depositions).toBeGreaterThan(0)
  expect(totals.resyncs).toBeGreaterThan(0)
  expect(totals.atRest).toBeGreaterThan(runs)
  expect(totals.diskErrors).toBeGreaterThan(runs / 4)
  expect(totals.requestFaults).toBeGreaterThan(0)
  expect(totals.lostThreads).toBeGreaterThan(0)
  expect(totals.clocksSet).toBeGreaterThan(0)
  expect(totals.refusedWrites).toBeGreaterThan(0)
  expect(totals.flippedBits).toBeGreaterThan(0)
  expect(totals.slotsLost).toBeGreaterThan(0)
  expect(totals.failovers).toBeGreaterThan(0)
  expect(totals.divergences).toBeGreaterThan(0)
  expect(totals.remakes).toBeGreaterThan(0)
})
