import { MoonlinkError, type ChangeLog, type Lsn } from '@moonlink/core'
import { expect, test } from 'vitest'
import { Acknowledger } from './acknowledger.ts'

function setUp(hasLog: boolean) {
  const told: Lsn[] = []
  const steps: string[] = []
  const other = { isOutdated: false, keptFromLsn: null as Lsn | null }
  const engine = { safe: 10n, acknowledgeableLsn: () => engine.safe, restartLsn: () => engine.safe }
  const log = {
    durable: null as Lsn | null,
    start: 0n,
    get durableLsn() {
      return log.durable
    },
    isPrunable: (through: Lsn) => through >= log.start,
    prune: (through: Lsn) => steps.push(`prune ${through}`),
  }
  const lease = { isLost: false }
  const acknowledger = new Acknowledger({
    engine,
    log: hasLog ? (log as unknown as ChangeLog) : null,
    lease: {
      check: async () => {
        if (lease.isLost) throw new MoonlinkError('fenced', 'LEASE_LOST', 'another backend has taken over')
      },
    },
    floorLsn: 5n,
    slotLsn: 7n,
    remember: async (lsn) => {
      await Promise.resolve()
      steps.push(`remember ${lsn}`)
      other.isOutdated = false
    },
    keptFromLsn: () => other.keptFromLsn,
    isOutdated: () => other.isOutdated,
  })
  const loop = { acknowledge: (lsn: Lsn) => told.push(lsn) }
  return { acknowledger, engine, lease, log, loop, other, told, steps }
}

test('without a log, the source may forget what Iceberg has, once that is written down', async () => {
  const { acknowledger, engine, loop, steps, told } = setUp(false)
  await acknowledger.begin()
  expect(acknowledger.coveredLsn).toBe(10n)
  await acknowledger.acknowledge(loop)
  engine.safe = 20n
  await acknowledger.acknowledge(loop)
  engine.safe = 15n
  await acknowledger.acknowledge(loop)
  expect(told).toEqual([10n, 20n, 20n])
  expect(steps).toEqual(['remember 10', 'remember 20'])
})

test('with a log, it may forget what that has; the log lets go of what Iceberg has, after that is written down', async () => {
  const { acknowledger, engine, log, loop, steps, told } = setUp(true)
  await acknowledger.begin()
  log.durable = 100n
  acknowledger.acknowledgeDurable(loop)
  expect(told).toEqual([100n])
  log.start = 40n
  engine.safe = 30n
  await acknowledger.acknowledge(loop)
  expect(steps).toEqual(['remember 10', 'prune 10'])
  engine.safe = 50n
  await acknowledger.acknowledge(loop)
  expect(steps.slice(2)).toEqual(['remember 50', 'prune 50'])
  expect(told).toEqual([100n, 100n, 100n])
})

test('with a log that is of no use, what Iceberg has counts, as without one', async () => {
  const { acknowledger, engine, log, loop, told } = setUp(true)
  await acknowledger.begin()
  log.start = 1000n
  engine.safe = 20n
  await acknowledger.acknowledge(loop)
  log.durable = 15n
  engine.safe = 30n
  await acknowledger.acknowledge(loop)
  expect(told).toEqual([20n, 30n])
  expect(acknowledger.coveredLsn).toBe(30n)
})

test('what else is remembered is written with what is known then, however slow an earlier writing is', async () => {
  const { acknowledger, engine, loop, steps } = setUp(true)
  await acknowledger.begin()
  engine.safe = 50n
  await Promise.all([acknowledger.acknowledge(loop), acknowledger.remember()])
  expect(steps).toEqual(['remember 10', 'prune 10', 'remember 50', 'prune 50', 'remember 50'])
})

test('what else is remembered is written down once it has changed, though Iceberg has nothing new', async () => {
  const { acknowledger, loop, other, steps } = setUp(true)
  await acknowledger.begin()
  await acknowledger.acknowledge(loop)
  other.isOutdated = true
  await acknowledger.acknowledge(loop)
  await acknowledger.acknowledge(loop)
  expect(steps).toEqual(['remember 10', 'prune 10', 'remember 10'])
})

test('what is remembered of a table is written down, and found by a successor, before its rows are committed', async () => {
  const { acknowledger, lease, other, steps } = setUp(true)
  await acknowledger.begin()
  await acknowledger.rememberFirst('public.a')
  other.isOutdated = true
  await acknowledger.rememberFirst('public.a')
  expect(steps).toEqual(['remember 10', 'prune 10', 'remember 10'])
  other.isOutdated = true
  lease.isLost = true
  await expect(acknowledger.rememberFirst('public.a')).rejects.toMatchObject({ code: 'LEASE_LOST' })
})

test('a backend that was taken over from tells the source nothing that its successor does not know of', async () => {
  const { acknowledger, engine, lease, log, loop, steps, told } = setUp(true)
  await acknowledger.begin()
  await acknowledger.acknowledge(loop)
  log.start = 20n
  lease.isLost = true
  engine.safe = 50n
  await expect(acknowledger.acknowledge(loop)).rejects.toMatchObject({ code: 'LEASE_LOST' })
  acknowledger.acknowledgeDurable(loop)
  expect(told).toEqual([10n, 10n])
  expect(acknowledger.coveredLsn).toBe(10n)
  expect(steps).toEqual(['remember 10', 'prune 10', 'remember 50'])
})

test('what a deposed backend writes down is remembered by nobody', async () => {
  const { acknowledger, lease } = setUp(false)
  lease.isLost = true
  await expect(acknowledger.remember()).rejects.toMatchObject({ kind: 'fenced', code: 'LEASE_LOST' })
})

test('what is kept for a table that the engine does not have is neither covered nor let go of, and the source is told what the log has', async () => {
  for (const hasLog of [false, true]) {
    const { acknowledger, engine, log, loop, other, steps, told } = setUp(hasLog)
    other.keptFromLsn = 6n
    await acknowledger.begin()
    expect(acknowledger.coveredLsn).toBe(6n)
    engine.safe = 20n
    log.durable = 100n
    await acknowledger.acknowledge(loop)
    expect([acknowledger.coveredLsn, told]).toEqual([6n, [hasLog ? 100n : 7n]])
    other.keptFromLsn = null
    await acknowledger.acknowledge(loop)
    expect(steps).toEqual(hasLog ? ['remember 6', 'prune 6', 'remember 20', 'prune 20'] : ['remember 6', 'remember 20'])
  }
})
