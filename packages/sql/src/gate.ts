/**
 * Lets at most `width` tasks run at once; the others wait in order. Each running DuckDB call holds a thread of libuv's pool
 * (four, unless UV_THREADPOOL_SIZE says otherwise), which file access and compression of the process need too.
 */
export class Gate {
  private free: number
  private readonly waiting: (() => void)[] = []

  constructor(width: number) {
    this.free = width
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--
    else await new Promise<void>((resolve) => this.waiting.push(resolve))
    try {
      return await task()
    } finally {
      const next = this.waiting.shift()
      if (next) next()
      else this.free++
    }
  }
}
