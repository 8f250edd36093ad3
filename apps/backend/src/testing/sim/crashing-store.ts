import type { ByteRange, ObjectBytes, ObjectMeta, ObjectStore } from '@moonlink/core'

const forEver = () => new Promise<never>(() => undefined)

/**
 * What one process sees of a store: it dies at a chosen call, before that call's effect or after it, and from then on no call of it returns. What it stored
 * stays for the next.
 */
export class CrashingStore implements ObjectStore {
  readonly crashed: Promise<void>
  private readonly inner: ObjectStore
  private readonly crashAt: number
  private readonly isAfterEffect: boolean
  private calls = 0
  private isDead = false
  private die: () => void = () => undefined

  constructor(inner: ObjectStore, crashAt: number, isAfterEffect: boolean) {
    this.inner = inner
    this.crashAt = crashAt
    this.isAfterEffect = isAfterEffect
    this.crashed = new Promise((resolve) => (this.die = resolve))
  }

  /** The process dies now, whatever it does. */
  crash(): void {
    this.isDead = true
    this.die()
  }

  get(uri: string, range?: ByteRange): Promise<Uint8Array> {
    return this.call(() => this.inner.get(uri, range))
  }

  head(uri: string): Promise<ObjectMeta | null> {
    return this.call(() => this.inner.head(uri))
  }

  put(uri: string, bytes: ObjectBytes): Promise<void> {
    return this.call(() => this.inner.put(uri, bytes))
  }

  putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    return this.call(() => this.inner.putIfAbsent(uri, bytes))
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    yield* await this.call(async () => this.inner.list(prefix))
  }

  delete(uri: string): Promise<void> {
    return this.call(() => this.inner.delete(uri))
  }

  private async call<T>(work: () => Promise<T>): Promise<T> {
    if (this.isDead) return forEver()
    if (++this.calls !== this.crashAt) {
      const result = await work()
      return this.isDead ? forEver() : result
    }
    if (this.isAfterEffect) await work()
    this.crash()
    return forEver()
  }
}
