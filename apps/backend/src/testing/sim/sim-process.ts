import { isMoonlinkError, MoonlinkError, steadyTime, type Clock, type LocalDisk, type ObjectStore } from '@moonlink/core'
import { FaultyObjectStore, type FaultPlan } from '@moonlink/object-store'
import type { DiskCall, SimulatedLocalDisk } from '@moonlink/testkit'
import type { Dice } from './random.ts'
import { nextTurn } from './sim-clock.ts'
import { LATE_MS } from './sim-profile.ts'

const forEver = () => new Promise<never>(() => undefined)

/** How long a call hangs that is not answered. */
export const TIMEOUT_MS = 30_000

/** How long the line to store and catalog is broken at most, behind an answer that was lost with it. */
const BROKEN_MS = 3000

/** What processes talk to over a network. */
export const SERVERS = ['store', 'catalog', 'source'] as const
export type SimServer = (typeof SERVERS)[number]

/** What becomes of a request to a server; `twice`: it gets there again, and what is answered is the second. */
export interface RequestFate {
  readonly fate: 'pass' | 'refuse' | 'hang' | 'lose answer' | 'late' | 'twice'
  readonly lateByMs: number
}

export interface SimProcessOptions {
  readonly dice: Dice
  readonly clock: Clock
  /** What the clock on its machine's wall says, which somebody may set. */
  readonly wallMs: () => number
  /** Share of calls of each kind of trouble. */
  readonly failing: number
  /** At which of its calls the process dies; that call may still have its effect. */
  readonly crashAt: number
  readonly crashesAfterEffect: boolean
  /** How many turns of the event loop a request to the store or the catalog is on its way at most, and so its answer. What is on its way gets there, whatever becomes of the process. */
  readonly travelTurns: number
  /** Whether nobody is there just now. */
  readonly isAway: (server: SimServer) => boolean
  /** Whether the store is away for that alone. */
  readonly failsAt: (uri: string) => boolean
  readonly onDiskError: () => void
  readonly onRequestFault: () => void
  readonly onThreadLost: () => void
  /** Told of each write to the store before it goes out: it may get there at any time from then on. */
  readonly onWrite: (uri: string) => void
}

/** One process as what it calls sees it: some calls fail, at one it dies, and once it is dead no call returns. While it stands still, none goes out. */
export class SimProcess {
  /** Its own time: it does not wake while it stands still, or when it is dead. */
  readonly clock: Clock
  readonly died: Promise<void>
  /** Codes of what went wrong with its calls. */
  readonly met = new Set<string>()
  private readonly options: SimProcessOptions
  private calls = 0
  private brokenUntilMs = 0
  private isDead = false
  private die: () => void = () => undefined
  private resumed: Promise<void> | null = null
  private wake: () => void = () => undefined

  constructor(options: SimProcessOptions) {
    const { clock, wallMs } = options
    this.options = options
    this.died = new Promise((resolve) => (this.die = resolve))
    this.clock = {
      nowMs: steadyTime(wallMs, () => this.monotonicMs()),
      sleep: async (ms, signal) => {
        // A dead one is not woken either: its sleepers would keep time going.
        if (this.isDead) return forEver()
        await clock.sleep(ms, signal)
        await this.gate()
      },
    }
  }

  monotonicMs(): number {
    return this.options.clock.nowMs()
  }

  get isAlive(): boolean {
    return !this.isDead
  }

  /** It does nothing, and answers nobody. */
  get standsStill(): boolean {
    return this.resumed !== null
  }

  /** It dies now, whatever it does. */
  kill(): void {
    this.isDead = true
    this.die()
    this.resume()
  }

  /** It stands still until `resume`. */
  pause(): void {
    this.resumed ??= new Promise((resolve) => (this.wake = resolve))
  }

  resume(): void {
    this.resumed = null
    this.wake()
  }

  /** A call that leaves the process. */
  async call<T>(work: () => Promise<T>): Promise<T> {
    await this.gate()
    if (++this.calls === this.options.crashAt) {
      if (this.options.crashesAfterEffect) await work().catch(() => undefined)
      this.kill()
      return forEver()
    }
    try {
      return await work()
    } catch (error) {
      this.meet(error)
      throw error
    } finally {
      await this.gate()
    }
  }

  /** A call over a network that takes its time. */
  request<T>(work: () => Promise<T>): Promise<T> {
    return this.call(async () => {
      await this.travel()
      try {
        return await work()
      } finally {
        await this.travel()
      }
    })
  }

  /** A call to the source that may be refused, be answered by nobody, or lose its answer on the way. */
  async unreliably<T>(what: string, work: () => Promise<T>): Promise<T> {
    const { clock, dice, failing, isAway } = this.options
    return this.call(async () => {
      const draw = dice.next()
      if (draw < failing || isAway('source')) throw lost(what)
      if (draw < failing * 1.2) {
        await clock.sleep(TIMEOUT_MS)
        throw lost(what)
      }
      const result = await work()
      if (draw < failing * 2) throw lost(what)
      return result
    })
  }

  /** Decides about a request whose server is told apart from its network. */
  requestFate(): RequestFate {
    const { dice, failing, isAway, onRequestFault } = this.options
    const draw = dice.next()
    const lateByMs = dice.next() * LATE_MS
    const fates = ['refuse', 'hang', 'lose answer', 'late', 'twice'] as const
    const fate = isAway('catalog') || this.isBroken ? 'refuse' : (fates.find((_, index) => draw < failing * (index + 1)) ?? 'pass')
    if (fate !== 'pass') onRequestFault()
    if (fate === 'lose answer') this.mayBreak()
    return { fate, lateByMs }
  }

  /** Work that another thread does, which may end under it. */
  threaded<T>(work: () => Promise<T>): Promise<T> {
    const { dice, failing, onThreadLost } = this.options
    return this.call(() => {
      if (!dice.chance(failing * 3)) return work()
      onThreadLost()
      throw new MoonlinkError('retry', 'PARQUET_WORKER_LOST', 'a planned end of a Parquet worker')
    })
  }

  /** The store as this process sees it. What was on its way when it died may still arrive. */
  store(inner: ObjectStore): ObjectStore {
    const { clock } = this.options
    const faulty = new FaultyObjectStore({ inner, plan: this.faults(), clock })
    return {
      get: (uri, range) => this.request(() => faulty.get(uri, range)),
      head: (uri) => this.request(() => faulty.head(uri)),
      put: (uri, bytes) => this.sending(uri, () => faulty.put(uri, bytes)),
      putIfAbsent: (uri, bytes) => this.sending(uri, () => faulty.putIfAbsent(uri, bytes)),
      delete: (uri) => this.request(() => faulty.delete(uri)),
      list: (prefix) => this.listed(faulty, prefix),
    }
  }

  /** The disk as this process sees it; calls below one of `failing` may fail. */
  disk(disk: SimulatedLocalDisk, failing: readonly string[]): LocalDisk {
    const { dice, onDiskError } = this.options
    const mayFailSync = (call: DiskCall): void => {
      // What a dead process still does with the error has no effect on anything but itself.
      if (++this.calls === this.options.crashAt) this.kill()
      if (this.isDead) throw diskError(call)
      mayFail(call)
    }
    const mayFail = (call: DiskCall): void => {
      if (!failing.some((directory) => call.path.startsWith(directory)) || !dice.chance(this.options.failing)) return
      onDiskError()
      // What a cache makes of it.
      this.met.add('STORE_UNAVAILABLE')
      throw diskError(call)
    }
    const session = disk.session(async (call) => {
      await this.call(async () => undefined)
      mayFail(call)
    }, mayFailSync)
    void this.died.then(() => session.end())
    return session
  }

  private async *listed(store: ObjectStore, prefix: string): ReturnType<ObjectStore['list']> {
    try {
      for await (const object of await this.request(async () => store.list(prefix))) {
        await this.gate()
        yield object
      }
    } catch (error) {
      this.meet(error)
      throw error
    }
  }

  private get isBroken(): boolean {
    return this.options.clock.nowMs() < this.brokenUntilMs
  }

  private mayBreak(): void {
    const { clock, dice } = this.options
    if (dice.chance(0.5)) this.brokenUntilMs = clock.nowMs() + dice.below(BROKEN_MS)
  }

  private meet(error: unknown): void {
    if (isMoonlinkError(error) && error.code !== 'OBJECT_NOT_FOUND') this.met.add(error.code)
  }

  private sending<T>(uri: string, write: () => Promise<T>): Promise<T> {
    this.options.onWrite(uri)
    return this.request(write)
  }

  private async travel(): Promise<void> {
    const { dice, travelTurns } = this.options
    for (let turns = travelTurns > 0 ? dice.below(travelTurns + 1) : 0; turns > 0; turns--) await nextTurn()
  }

  private async gate(): Promise<void> {
    while (this.resumed !== null) await this.resumed
    if (this.isDead) return forEver()
  }

  private faults(): FaultPlan {
    const { dice, failing, failsAt, isAway } = this.options
    return ({ operation, uri }) => {
      const draw = dice.next()
      const isWrite = operation === 'put' || operation === 'putIfAbsent' || operation === 'delete'
      const share = isWrite ? failing : failing / 4
      if (draw < share || isAway('store') || failsAt(uri) || this.isBroken) return { fate: 'fail', latencyMs: 0 }
      if (draw < share * 1.2) return { fate: 'fail', latencyMs: TIMEOUT_MS }
      if (draw < share * 2) {
        this.mayBreak()
        return { fate: 'lose answer', latencyMs: 0 }
      }
      if (draw < share * 2.5) return { fate: 'late', latencyMs: 0, lateByMs: dice.next() * LATE_MS }
      return { fate: 'pass', latencyMs: 0 }
    }
  }
}

function lost(what: string): MoonlinkError {
  return new MoonlinkError('retry', 'PG_CONNECTION_LOST', `a planned failure of ${what}.`, { context: { injected: true } })
}

function diskError({ operation, path }: DiskCall): Error {
  return Object.assign(new Error(`EIO: planned failure of ${operation} '${path}'`), { code: 'EIO', errno: -5 })
}
