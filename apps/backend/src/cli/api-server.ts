import { assert } from '@moonlink/core'
import type { Hono } from 'hono'
import { listen, type RunningServer } from '../http/server.ts'

const longStartMs = 2_000

/** The server of the API: it answers while a start waits, so that it can be asked for whom, and then for the mirror. */
export class ApiServer {
  readonly #note: (line: string) => void
  #server: RunningServer | null = null
  #longStart: NodeJS.Timeout | undefined

  /** `note` prints where the server is, should the start take long. */
  constructor(note: (line: string) => void) {
    this.#note = note
  }

  /** Throws as `listen` does. */
  async open(starting: Hono, address: string): Promise<void> {
    const server = await listen(starting, address)
    this.#server = server
    this.#longStart = setTimeout(
      () => this.#note(`still starting (moonlink status says what is waited for); the API is at ${server.url}`),
      longStartMs,
    )
  }

  /** The start is over. Returns where the server is. */
  started(api: Hono): string {
    clearTimeout(this.#longStart)
    assert(this.#server !== null, 'the server is open before the start is over')
    this.#server.answerWith(api)
    return this.#server.url
  }

  /** Fine where it was never opened. */
  async close(): Promise<void> {
    clearTimeout(this.#longStart)
    await this.#server?.close()
  }
}
