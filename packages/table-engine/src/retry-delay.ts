const FIRST_MS = 200
const MAX_MS = 30_000

/** When something that failed is tried again: each time in a row after twice the delay, up to 30 s. */
export class RetryDelay {
  private dueAtMs = 0
  private delayMs = FIRST_MS

  isOver(nowMs: number): boolean {
    return nowMs >= this.dueAtMs
  }

  failed(nowMs: number): void {
    this.dueAtMs = nowMs + this.delayMs
    this.delayMs = Math.min(this.delayMs * 2, MAX_MS)
  }

  succeeded(): void {
    this.dueAtMs = 0
    this.delayMs = FIRST_MS
  }
}
