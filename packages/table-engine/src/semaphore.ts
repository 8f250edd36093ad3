/** Runs sections beside each other as far as their weights fit into a limit, in the order they asked. One that is heavier than the limit runs alone. */
export class Semaphore {
  private readonly limit: number
  private readonly waiting: { readonly weight: number; readonly start: () => void }[] = []
  private used = 0

  constructor(limit: number) {
    this.limit = limit
  }

  async run<T>(weight: number, section: () => Promise<T>): Promise<T> {
    const bounded = Math.min(weight, this.limit)
    await new Promise<void>((resolve) => {
      this.waiting.push({ weight: bounded, start: resolve })
      this.startNext()
    })
    try {
      return await section()
    } finally {
      this.used -= bounded
      this.startNext()
    }
  }

  private startNext(): void {
    for (let next = this.waiting.at(0); next !== undefined && this.used + next.weight <= this.limit; next = this.waiting.at(0)) {
      this.waiting.shift()
      this.used += next.weight
      next.start()
    }
  }
}
