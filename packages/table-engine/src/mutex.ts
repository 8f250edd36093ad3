/** Runs sections one after the other, in the order they asked. */
export class Mutex {
  private tail: Promise<void> = Promise.resolve()
  private sections = 0

  /** True where a section runs or waits. */
  get isBusy(): boolean {
    return this.sections > 0
  }

  run<T>(section: () => Promise<T> | T): Promise<T> {
    this.sections++
    const result = this.tail.then(section)
    const done = () => void this.sections--
    this.tail = result.then(done, done)
    return result
  }
}
