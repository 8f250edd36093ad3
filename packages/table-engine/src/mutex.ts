/** Runs sections one after the other, in the order they asked. */
export class Mutex {
  private tail: Promise<void> = Promise.resolve()

  run<T>(section: () => Promise<T> | T): Promise<T> {
    const result = this.tail.then(section)
    this.tail = result.then(
      () => undefined,
      () => undefined,
    )
    return result
  }
}
