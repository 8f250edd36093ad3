import { MoonlinkError, type Clock, type Logger, type Lsn } from '@moonlink/core'
import type { PgSourceSettings } from './config.ts'
import type { CatalogConnection, Connector } from './connect.ts'
import type { ServerFacts } from './preflight.ts'
import type { ServerProcess } from './server-session.ts'
import {
  checkSlot,
  createSlot,
  dropSlot,
  evictFromSlot,
  isLost,
  makeFailoverSlot,
  readSlot,
  unlessHeldUp,
  waitForSlot,
  type SlotState,
} from './slot.ts'
import { whomItWaitsFor, type SourceWaits } from './source-waits.ts'

/** How often is looked whether who has the slot still waits. */
const HELD_SLOT_LOOK_MS = 500
/** It decodes with a catalog that lacks the publication, and the server fails at that. */
const NO_PUBLICATION = 'its publication was not there'

export interface MirrorSlotDependencies {
  readonly connector: Connector
  readonly connection: CatalogConnection
  readonly settings: PgSourceSettings
  readonly facts: ServerFacts
  readonly waits: SourceWaits
  readonly logger: Logger
  readonly clock: Clock
}

/** The slot that a mirror reads: made, waited for and dropped, with what is known of it beyond what the server shows. */
export class MirrorSlot {
  private readonly dependencies: MirrorSlotDependencies
  private readonly name: string
  /** Of the last stream's connection. */
  private walSender: ServerProcess | null = null
  /** Why it is of no use any more where the server does not say so; null where it is. */
  private whyUseless: string | null = null

  constructor(dependencies: MirrorSlotDependencies) {
    this.dependencies = dependencies
    this.name = dependencies.settings.slot
  }

  /** As the server shows it, or null where there is none. */
  async state(): Promise<SlotState | null> {
    return readSlot(this.dependencies.connection, this.name)
  }

  /** Its state. Throws `invalid`/`PG_SLOT_MISSING` where there is none, and the reason where it can never serve this mirror. */
  async usable(): Promise<SlotState> {
    const slot = await this.state()
    if (!slot) {
      throw new MoonlinkError(
        'invalid',
        'PG_SLOT_MISSING',
        `slot "${this.name}" is not there any more, so changes are missing. With source.onSlotLoss: resync a new one takes its place, and the tables are made equal to the source.`,
        { context: { slot: this.name } },
      )
    }
    checkSlot(this.name, slot, this.dependencies.facts.database)
    return slot
  }

  /** See `PgSource.waitUntilUnused`. */
  async waitUntilUnused(): Promise<void> {
    const { clock, connection, logger, settings, waits } = this.dependencies
    if (settings.evictsStale) await evictFromSlot(connection, this.name, logger)
    for (;;) {
      const pid = await waitForSlot(connection, this.name, { waitMs: settings.slotWaitMs, clock }).then(() => null, unlessHeldUp)
      if (pid === null) return
      const work = { pid, what: `server process ${pid}, which still has slot "${this.name}",`, tables: [] }
      const isSame = async () => (await this.state())?.activePid === pid && (await whomItWaitsFor(connection, pid)) !== null
      await waits.during(work, async () => {
        while (await isSame()) await clock.sleep(HELD_SLOT_LOOK_MS)
      })
    }
  }

  /** Waits up to `slotWaitMs` until nobody streams from it; where the last stream's connection is closed and has not noticed, it is ended. Throws `retry`/`PG_SLOT_IN_USE`. */
  async waitUntilLetGo(): Promise<void> {
    const { clock, connection, settings } = this.dependencies
    await waitForSlot(connection, this.name, { waitMs: settings.slotWaitMs, clock, stale: this.walSender })
  }

  /** A stream of ours is about to begin. */
  streamedBy(walSender: ServerProcess): void {
    this.walSender = walSender
  }

  /** A stream of ours has ended so. */
  failedWith({ code }: MoonlinkError): void {
    if (code === 'PG_PUBLICATION_MISSING') this.whyUseless = NO_PUBLICATION
    // It would send the same again.
    if (code === 'PG_PREPARED_LOST') this.whyUseless = 'it lacks the changes of a prepared transaction'
  }

  /** The publication is not there, and is going to be made: a slot decodes with the catalog as it was, and servers before 18 fail where that lacks a publication. */
  publicationIsMissing(): void {
    if (this.dependencies.facts.versionNumber < 180_000) this.whyUseless = NO_PUBLICATION
  }

  /** Makes it where it is not there, or is of no use any more and may be made anew. */
  async ensure(): Promise<{ readonly slotCreated: boolean; readonly slotLsn: Lsn }> {
    const { connection, connector, facts, logger, settings, waits } = this.dependencies
    const slot = await this.stateOnceMade()
    if (slot) {
      checkSlot(this.name, slot, facts.database, settings.replaceLostSlot)
      const whyUseless = settings.replaceLostSlot ? this.whyUseless : null
      if (whyUseless !== null) await this.waitUntilLetGo()
      else if (!isLost(slot)) {
        await this.letStandbysKeep(slot)
        return { slotCreated: false, slotLsn: slot.confirmedFlushLsn ?? 0n }
      }
      const reason = whyUseless ?? slot.invalidationReason ?? slot.walStatus
      logger.warn('the slot is made anew', { slot: this.name, reason })
      await dropSlot(connection, this.name)
    }
    const slotLsn = await createSlot(connector, connection, this.name, waits, settings.failover)
    this.whyUseless = null
    return { slotCreated: true, slotLsn }
  }

  /** False where there is none. */
  async drop(): Promise<boolean> {
    await this.waitUntilLetGo()
    return dropSlot(this.dependencies.connection, this.name)
  }

  /** A slot that was made before that was asked for. One that is in use can't be altered: the next start does. */
  private async letStandbysKeep({ isActive, isFailover }: SlotState): Promise<void> {
    const { connector, logger, settings } = this.dependencies
    if (!settings.failover || isFailover || isActive) return
    await makeFailoverSlot(connector, this.name)
    logger.info('the slot is one that standbys keep from now on', { slot: this.name })
  }

  /** One that is being made is none yet, and may never be. */
  private async stateOnceMade(): Promise<SlotState | null> {
    const slot = await this.state()
    if (slot?.isActive !== true || slot.confirmedFlushLsn !== null) return slot
    await this.waitUntilUnused()
    return this.state()
  }
}
