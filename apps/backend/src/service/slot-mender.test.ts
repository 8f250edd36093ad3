import { MoonlinkError, silentLogger, silentTelemetry, systemClock, type Lsn } from '@moonlink/core'
import { expect, test } from 'vitest'
import { OneAtATime } from './one-at-a-time.ts'
import { SlotMender, type SlotMenderOptions } from './slot-mender.ts'

interface Reached {
  readonly appliedLsn?: Lsn
  readonly heardLsn?: Lsn
  readonly loggedLsn?: Lsn
  readonly readLsn?: Lsn
}

/** Slots that are mended on a server whose log ends at `sourceLsn`; to begin is refused first for each of `refusals`. */
function setUp(reached: Reached, refusals: Error[] = []) {
  const steps: string[] = []
  const live = new Set(['public.t', 'public.other'])
  const unopened = new Set<string>()
  const server = { sourceLsn: 100n, looks: 0 }
  const counted: string[] = []
  const step = async (name: string) => void steps.push(name)
  const options = {
    clock: { ...systemClock, sleep: () => new Promise((resolve) => setImmediate(resolve)) },
    config: { source: { onSlotLoss: 'resync' } },
    engine: {
      appliedLsn: reached.appliedLsn ?? 0n,
      mirror: (name: string) => ({
        pause: async (code: string) => {
          steps.push(`pause ${name} ${code}`)
          live.delete(name)
        },
      }),
    },
    log: { status: { range: { startLsn: 1n, endLsn: reached.loggedLsn ?? 1n } } },
    logger: silentLogger,
    telemetry: { ...silentTelemetry, count: (name: string) => counted.push(name) },
    source: {
      identity: { slot: 'moonlink' },
      history: { reachedLsn: reached.readLsn ?? 0n, acceptAny: () => steps.push('accept any'), forgetLooks: () => undefined },
      position: async () => {
        server.looks++
        return { sourceLsn: server.sourceLsn }
      },
    },
    mirrors: {
      live: () => [...live],
      unopened: { letGo: () => undefined, has: (name: string) => unopened.has(name) },
      beginResync: async (names: string[]) => {
        const refusal = refusals.shift()
        if (refusal !== undefined) throw refusal
        steps.push(`compare ${names.join()}`)
        return { begun: names, slotLsn: 90n }
      },
      copies: { stop: async () => undefined, runOrPause: () => step('copy') },
    },
    loop: {
      sourceLsn: reached.heardLsn ?? 0n,
      stop: async () => undefined,
      close: async () => undefined,
      start: () => steps.push('start'),
    },
    acknowledger: { beginAt: (lsn: Lsn) => step(`begin at ${lsn}`) },
    slotWatch: () => ({ reset: () => undefined }),
    changes: new OneAtATime(),
    isClosing: () => false,
    onFailure: (error: Error) => steps.push(error.message),
  }
  return { counted, live, server, steps, unopened, mender: new SlotMender(options as unknown as SlotMenderOptions) }
}

const goesOn = ['accept any', 'begin at 90', 'start', 'copy']

test('tables are compared with a server that has come as far as the old one', async () => {
  const { counted, mender, steps } = setUp({ appliedLsn: 100n, heardLsn: 100n, loggedLsn: 100n, readLsn: 100n })
  mender.lost('the slot is not there')
  await expect.poll(() => steps).toEqual(['compare public.t,public.other', ...goesOn])
  expect(counted).toEqual(['moonlink_slot_losses_total'])
})

test.each([
  ['what is mirrored', { appliedLsn: 150n }],
  ['what the log has', { loggedLsn: 150n }],
  ['what the stream heard of', { heardLsn: 150n }],
  ['what was copied', { readLsn: 150n }],
])('a server whose log ends before %s is waited for: what comes would be taken for what was read', async (_, reached) => {
  const { mender, server, steps } = setUp(reached)
  mender.lost('the slot is not there')
  await expect.poll(() => server.looks).toBeGreaterThan(2)
  expect(steps).toEqual([])
  server.sourceLsn = 150n
  await expect.poll(() => steps).toEqual(['compare public.t,public.other', ...goesOn])
})

const isGone = new MoonlinkError('invalid', 'TABLE_UNKNOWN', 'the source has no table public.t', { context: { table: 'public.t' } })

test('a table that the source has no more is paused, and the others are compared', async () => {
  const { mender, steps } = setUp({}, [isGone])
  mender.lost('the slot is not there')
  await expect.poll(() => steps).toEqual(['pause public.t TABLE_UNKNOWN', 'compare public.other', ...goesOn])
})

test('one that is found to be gone as it is opened anew is tried again by itself, and the others are compared', async () => {
  const { live, mender, steps, unopened } = setUp({}, [isGone])
  live.delete('public.t')
  unopened.add('public.t')
  mender.lost('the slot is not there')
  await expect.poll(() => steps).toEqual(['compare public.other', ...goesOn])
})

test('a warehouse that is full is waited for; what concerns no table ends the backend', async () => {
  const full = new MoonlinkError('invalid', 'STORE_FULL', 'no room to write a file')
  const { mender, steps } = setUp({}, [full, full, new MoonlinkError('invalid', 'PG_PERMISSION', 'no slot may be made')])
  mender.lost('the slot is not there')
  await expect.poll(() => steps).toEqual(['no slot may be made'])
})

test('so is one that refuses all tables', async () => {
  const denied = new MoonlinkError('invalid', 'STORE_NOT_WRITABLE', 'may not write: allow it')
  const { mender, steps } = setUp({}, [denied, denied])
  mender.lost('the slot is not there')
  await expect.poll(() => steps).toEqual(['compare public.t,public.other', ...goesOn])
})
