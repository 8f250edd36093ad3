import { isMoonlinkError, MoonlinkError, type LeaseHolder, type ObjectStore } from '@moonlink/core'
import { z } from 'zod'

const VERSION = 1

const recordSchema = z.object({
  version: z.literal(VERSION),
  holder: z.object({ id: z.string(), home: z.string(), name: z.string() }),
  /** Grows while the holder lives. */
  renewals: z.number().int().nonnegative(),
  isReleased: z.boolean(),
  /** For how long the holder counts on not being taken over; absent in earlier ones. */
  takeoverMs: z.number().nonnegative().default(0),
})

export interface LeaseRecord {
  readonly holder: LeaseHolder
  readonly renewals: number
  readonly isReleased: boolean
  /** Who waits lets at least so many milliseconds pass without a renewal. */
  readonly takeoverMs: number
}

/**
 * One object for each epoch, under a name that can be taken once while it is there. The highest is the holder's, and is never removed: so who looks
 * for a higher one finds every successor.
 */
export class LeaseRecords {
  private readonly store: ObjectStore
  private readonly prefix: string

  constructor(store: ObjectStore, prefix: string) {
    this.store = store
    this.prefix = prefix
  }

  /** The highest epoch that was ever claimed; 0 where none was. */
  async newestEpoch(): Promise<number> {
    return (await this.epochs()).reduce((newest, epoch) => Math.max(newest, epoch), 0)
  }

  /** Null where it is not there any more. Throws `corrupt`/`LEASE_CORRUPT`, or `invalid`/`LEASE_VERSION` where a later Moonlink wrote it. */
  async read(epoch: number): Promise<LeaseRecord | null> {
    const uri = this.locate(epoch)
    let text: string
    try {
      text = new TextDecoder().decode(await this.store.get(uri))
    } catch (error) {
      if (isMoonlinkError(error) && error.code === 'OBJECT_NOT_FOUND') return null
      throw error
    }
    return parseRecord(text, uri)
  }

  async claim(epoch: number, holder: LeaseHolder, takeoverMs: number): Promise<'created' | 'exists'> {
    return this.store.putIfAbsent(this.locate(epoch), encode({ holder, renewals: 0, isReleased: false, takeoverMs }))
  }

  async renew(epoch: number, record: LeaseRecord): Promise<void> {
    await this.store.put(this.locate(epoch), encode(record))
  }

  async removeBefore(epoch: number): Promise<void> {
    for (const older of await this.epochs()) if (older < epoch) await this.store.delete(this.locate(older))
  }

  private async epochs(): Promise<number[]> {
    const epochs: number[] = []
    for await (const { uri } of this.store.list(this.prefix)) {
      const match = /^(\d{9})\.json$/.exec(uri.slice(this.prefix.length))
      if (match !== null) epochs.push(Number(match[1]))
    }
    return epochs
  }

  private locate(epoch: number): string {
    return `${this.prefix}${epoch.toString().padStart(9, '0')}.json`
  }
}

function encode(record: LeaseRecord): Uint8Array {
  const stored: z.input<typeof recordSchema> = { version: VERSION, ...record, holder: { ...record.holder } }
  return new TextEncoder().encode(JSON.stringify(stored))
}

function parseRecord(text: string, uri: string): LeaseRecord {
  try {
    const parsed: unknown = JSON.parse(text)
    const version = (parsed as { version?: unknown } | null)?.version
    if (typeof version === 'number' && version > VERSION) {
      const message = `${uri} has version ${version}, and this Moonlink reads up to ${VERSION}; start the later Moonlink that wrote it.`
      throw new MoonlinkError('invalid', 'LEASE_VERSION', message, { context: { uri, version } })
    }
    return recordSchema.parse(parsed)
  } catch (error) {
    if (isMoonlinkError(error)) throw error
    const message = `${uri} is no lease of ours; remove it once no backend runs on this log.`
    throw new MoonlinkError('corrupt', 'LEASE_CORRUPT', message, { context: { uri }, cause: error })
  }
}
