import type { ObjectMeta, ObjectStore } from '@moonlink/core'

/**
 * A store all of whose requests take equally long: those made meanwhile are answered together. So what a piece of work asks of it is a number of requests and a number of rounds,
 * one after the other, whatever the machine.
 */
export class PacedStore implements ObjectStore {
  readonly requests: string[] = []
  rounds = 0
  private readonly inner: ObjectStore
  private waiting: (() => void)[] = []

  constructor(inner: ObjectStore) {
    this.inner = inner
  }

  get(...args: Parameters<ObjectStore['get']>): Promise<Uint8Array> {
    return this.answer('get', args[0], () => this.inner.get(...args))
  }

  head(uri: string): Promise<ObjectMeta | null> {
    return this.answer('head', uri, () => this.inner.head(uri))
  }

  put(...args: Parameters<ObjectStore['put']>): Promise<void> {
    return this.answer('put', args[0], () => this.inner.put(...args))
  }

  putIfAbsent(...args: Parameters<ObjectStore['putIfAbsent']>): Promise<'created' | 'exists'> {
    return this.answer('put', args[0], () => this.inner.putIfAbsent(...args))
  }

  delete(uri: string): Promise<void> {
    return this.answer('delete', uri, () => this.inner.delete(uri))
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    await this.answer('list', prefix, async () => undefined)
    yield* this.inner.list(prefix)
  }

  private async answer<T>(operation: string, uri: string, work: () => Promise<T>): Promise<T> {
    this.requests.push(`${operation} ${uri}`)
    await new Promise<void>((resolve) => {
      this.waiting.push(resolve)
      if (this.waiting.length === 1) setImmediate(() => this.nextRound())
    })
    return work()
  }

  private nextRound(): void {
    const answered = this.waiting
    this.waiting = []
    this.rounds++
    for (const answer of answered) answer()
  }
}
