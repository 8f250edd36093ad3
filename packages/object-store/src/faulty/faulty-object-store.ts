import { joinBytes, MoonlinkError, type ByteRange, type Clock, type ObjectBytes, type ObjectMeta, type ObjectStore } from '@moonlink/core'
import type { FaultPlan, StoreOperation } from './fault-plan.ts'

export interface FaultyObjectStoreOptions {
  readonly inner: ObjectStore
  readonly plan: FaultPlan
  /** Passes latencies and the delay of late effects; a simulated clock makes them cost nothing. */
  readonly clock: Clock
}

/**
 * A store that fails as a plan says, for tests and simulations: calls that do nothing, that do their work and lose the answer, or that
 * do it late. What fails throws `retry`/`STORE_UNAVAILABLE`, as real stores do.
 *
 * It keeps what the port promises: `put` stays all or nothing. It does not repeat anything, so `putIfAbsent` may create and then throw.
 */
export class FaultyObjectStore implements ObjectStore {
  readonly #inner: ObjectStore
  readonly #plan: FaultPlan
  readonly #clock: Clock
  readonly #late = new Set<Promise<unknown>>()
  #calls = 0

  constructor(options: FaultyObjectStoreOptions) {
    this.#inner = options.inner
    this.#plan = options.plan
    this.#clock = options.clock
  }

  async get(uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#read('get', uri, () => this.#inner.get(uri, range, signal), signal)
  }

  async head(uri: string): Promise<ObjectMeta | null> {
    return this.#read('head', uri, () => this.#inner.head(uri))
  }

  async put(uri: string, bytes: ObjectBytes): Promise<void> {
    const copy = joinBytes(bytes).slice()
    await this.#write('put', uri, () => this.#inner.put(uri, copy))
  }

  async putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    const copy = bytes.slice()
    return this.#write('putIfAbsent', uri, () => this.#inner.putIfAbsent(uri, copy))
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    const { fate, latencyMs } = this.#plan({ operation: 'list', uri: prefix, index: this.#calls++ })
    await this.#pass(latencyMs)
    if (fate === 'fail') throw injected('list', prefix)
    for await (const object of this.#inner.list(prefix)) {
      yield object
      if (fate !== 'pass') break
    }
    if (fate !== 'pass') throw injected('list', prefix)
  }

  async delete(uri: string): Promise<void> {
    await this.#write('delete', uri, () => this.#inner.delete(uri))
  }

  /** Waits until every late effect has happened. */
  async settled(): Promise<void> {
    while (this.#late.size > 0) await Promise.all(this.#late)
  }

  async #read<T>(operation: StoreOperation, uri: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const fault = this.#plan({ operation, uri, index: this.#calls++ })
    await this.#pass(fault.latencyMs, signal)
    if (fault.fate !== 'pass') throw injected(operation, uri)
    return work()
  }

  async #write<T>(operation: StoreOperation, uri: string, work: () => Promise<T>): Promise<T> {
    const { fate, latencyMs, lateByMs = 0 } = this.#plan({ operation, uri, index: this.#calls++ })
    await this.#pass(latencyMs)
    if (fate === 'pass') return work()
    if (fate === 'lose answer') await work()
    if (fate === 'late') this.#later(lateByMs, work)
    throw injected(operation, uri)
  }

  async #pass(latencyMs: number, signal?: AbortSignal): Promise<void> {
    if (latencyMs > 0) await this.#clock.sleep(latencyMs, signal)
  }

  #later(lateByMs: number, work: () => Promise<unknown>): void {
    const effect: Promise<unknown> = this.#clock
      .sleep(lateByMs)
      .then(work)
      // Nobody is left to hear of it.
      .catch(() => {})
      .finally(() => this.#late.delete(effect))
    this.#late.add(effect)
  }
}

function injected(operation: StoreOperation, uri: string): MoonlinkError {
  return new MoonlinkError('retry', 'STORE_UNAVAILABLE', `a planned failure of ${operation} ${uri}.`, {
    context: { operation, uri, injected: true },
  })
}
