import { isMoonlinkError, type Clock, type Logger } from '@moonlink/core'
import { Client } from 'pg'
import { shopMoment, shopSchema, shopSeed } from './shop-schema.ts'

const pauseMs = 150

/** Makes the demo shop, where it is not there yet. */
export async function makeShop(url: string): Promise<void> {
  const client = new Client(url)
  await client.connect()
  try {
    await client.query(shopSchema)
    for (const statement of shopSeed) await client.query(statement)
  } finally {
    await client.end()
  }
}

/** A light write load on the shop, some transactions a second, until it is stopped. */
export class ShopLoad {
  readonly #abort = new AbortController()
  readonly #done: Promise<void>

  constructor(url: string, clock: Clock, logger: Logger) {
    this.#done = this.#run(url, clock).catch((error: unknown) => {
      if (!this.#abort.signal.aborted) logger.warn('the demo load ended', { error: String(error) })
    })
  }

  async stop(): Promise<void> {
    this.#abort.abort(new Error('stopped'))
    await this.#done
  }

  async #run(url: string, clock: Clock): Promise<void> {
    const client = new Client(url)
    client.on('error', () => this.#abort.abort(new Error('connection lost')))
    await client.connect()
    try {
      while (!this.#abort.signal.aborted) {
        for (const statement of shopMoment) await client.query(statement)
        await clock.sleep(pauseMs, this.#abort.signal)
      }
    } catch (error) {
      if (!this.#abort.signal.aborted || isMoonlinkError(error)) throw error
    } finally {
      await client.end()
    }
  }
}
