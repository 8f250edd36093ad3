/** Things to close, the last opened first. */
export class CloseStack {
  readonly #closers: (() => Promise<void>)[] = []

  push(close: () => Promise<void>): void {
    this.#closers.push(close)
  }

  /** Closes all, whatever some of them throw; then throws the first of that. Fine to call again. */
  async close(): Promise<void> {
    const errors: unknown[] = []
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  }
}
