import { systemClock, type Clock, type Lease, type LeaseHolder, type LeasePlace } from '@moonlink/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

/** A place where one lease is kept, as it is seen by several processes. */
export interface LeasesUnderTest {
  /** Opens the place for one process. It renews every 20 ms of `clock`, and takes a holder for dead after 200 ms. */
  open(holder: LeaseHolder, clock: Clock): LeasePlace
}

/** A process that can be paused, as by SIGSTOP: nothing that sleeps wakes in it. */
class Contender {
  readonly holder: LeaseHolder
  private readonly place: LeasePlace
  private readonly stopped = new AbortController()
  private readonly leases: Lease[] = []
  private isFrozen = false
  private thawed: () => void = () => {}
  private running: Promise<void> = Promise.resolve()
  sleeps = 0

  constructor(leases: LeasesUnderTest, name: string, home = name) {
    this.holder = { id: `${name} ${Math.random()}`, home, name }
    this.place = leases.open(this.holder, this.clock())
  }

  async acquire(waits = false, onWaiting?: (holder: LeaseHolder) => void): Promise<Lease> {
    const lease = await this.place.acquire({ waits, signal: this.stopped.signal, ...(onWaiting ? { onWaiting } : {}) })
    this.leases.push(lease)
    return lease
  }

  freeze(): void {
    this.isFrozen = true
    this.running = new Promise((resolve) => (this.thawed = resolve))
  }

  thaw(): void {
    this.isFrozen = false
    this.thawed()
  }

  /** It has slept so often more: it had a turn. */
  async turns(count: number): Promise<void> {
    for (const until = this.sleeps + count; this.sleeps < until;) await systemClock.sleep(5)
  }

  async end(): Promise<void> {
    this.thaw()
    this.stopped.abort(new Error('over'))
    for (const lease of this.leases) await lease.release()
  }

  private clock(): Clock {
    return {
      nowMs: () => systemClock.nowMs(),
      sleep: async (ms, signal) => {
        this.sleeps++
        await systemClock.sleep(ms, signal)
        while (this.isFrozen) await this.running
      },
    }
  }
}

const held = (name: string) =>
  expect.objectContaining({ kind: 'retry', code: 'LEASE_HELD', message: expect.stringContaining(name) as string })
const lost = expect.objectContaining({ kind: 'fenced', code: 'LEASE_LOST' })

/** What core's `LeasePlace` port promises, as tests. `factory` gives an empty place for each test. */
export function describeLease(name: string, factory: () => Promise<LeasesUnderTest>): void {
  describe(`${name}: the Lease contract`, () => {
    let place: LeasesUnderTest
    let contenders: Contender[]
    beforeEach(async () => {
      place = await factory()
      contenders = []
    })
    afterEach(async () => {
      for (const contender of contenders) await contender.end()
    })
    const contender = (who: string, home?: string) => {
      const made = new Contender(place, who, home)
      contenders.push(made)
      return made
    }

    test('a lease that is held is refused, and names its holder; given back, it is free at once', async () => {
      const first = await contender('one').acquire()
      expect(first.predecessor).toBeNull()
      await first.check()
      const other = contender('two')
      await expect(other.acquire()).rejects.toEqual(held('one'))
      await first.release()
      await first.release()
      const second = await other.acquire()
      expect(second.epoch).toBeGreaterThan(first.epoch)
      expect(second.predecessor).toBeNull()
      await expect(first.check()).rejects.toEqual(lost)
    })

    test('of many at once, one gets it', async () => {
      const all = await Promise.allSettled(Array.from({ length: 6 }, (_, index) => contender(`${index}`).acquire()))
      expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      for (const outcome of all) if (outcome.status === 'rejected') expect(outcome.reason).toEqual(held(''))
    })

    test('whoever waits takes over from a holder that stands still; that one is told as soon as it goes on', async () => {
      const one = contender('one')
      const first = await one.acquire()
      const told: string[] = []
      const lostBy: unknown[] = []
      first.onLost((error) => lostBy.push(error))
      const two = contender('two')
      const waiting = two.acquire(true, ({ name }) => told.push(name))
      await two.turns(20)
      expect(told).toEqual(['one'])
      await first.check()
      one.freeze()
      const second = await waiting
      expect(second.epoch).toBeGreaterThan(first.epoch)
      expect(second.predecessor).toEqual(one.holder)
      expect(lostBy).toEqual([])
      one.thaw()
      await expect(first.check()).rejects.toEqual(lost)
      await expect(first.check()).rejects.toThrow(/^two has taken over/)
      expect(lostBy).toEqual([lost])
      // What the first does now is nothing to the second.
      await first.release()
      await one.turns(0)
      await second.check()
      await expect(contender('three').acquire()).rejects.toEqual(held('two'))
    })

    test('a holder whose time has run out does not count on being the latest', async () => {
      const one = contender('one')
      const first = await one.acquire()
      await first.requireCurrent()
      const two = contender('two')
      const waiting = two.acquire(true)
      await two.turns(3)
      one.freeze()
      const second = await waiting
      // Before anything of the first has woken.
      await expect(first.requireCurrent()).rejects.toEqual(lost)
      await second.requireCurrent()
      await second.release()
      await contender('three').acquire()
      await expect(second.requireCurrent()).rejects.toEqual(lost)
    })

    test('a waiting process that was itself away does not take a living holder for dead', async () => {
      const one = contender('one')
      const first = await one.acquire()
      const two = contender('two')
      const waiting = two.acquire(true)
      waiting.catch(() => {})
      await two.turns(3)
      two.freeze()
      await one.turns(15)
      two.thaw()
      await two.turns(15)
      await first.check()
    })

    test('the next life of a holder need not wait, and its own last life is not its predecessor in another place', async () => {
      const first = await contender('one', 'home').acquire()
      const again = await contender('one', 'home').acquire()
      expect(again.epoch).toBeGreaterThan(first.epoch)
      await expect(first.check()).rejects.toEqual(lost)
    })

    test('one that is waited for by many goes to one of them, again and again', async () => {
      const epochs: number[] = []
      let holder = contender('first')
      let lease = await holder.acquire()
      const waiting = new Map<Contender, Promise<Lease>>()
      for (let round = 0; round < 3; round++) {
        while (waiting.size < 3) {
          const more = contender(`${round}.${waiting.size}`)
          waiting.set(more, more.acquire(true))
        }
        epochs.push(lease.epoch)
        if (round % 2 === 0) holder.freeze()
        else await lease.release()
        const next = await Promise.race(Array.from(waiting, async ([who, promise]) => ({ who, lease: await promise })))
        waiting.delete(next.who)
        holder.thaw()
        await expect(lease.check()).rejects.toEqual(lost)
        ;({ who: holder, lease } = next)
      }
      await lease.check()
      expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => a - b))
      for (const promise of waiting.values()) promise.catch(() => {})
    })
  })
}
