import { formatLsn, type Clock, type Logger, type Lsn } from '@moonlink/core'
import { formatBytes } from '../config/units.ts'
import type { SourceHandle, SourcePosition } from './parts.ts'
import { Repeating } from './repeating.ts'
import { SaidOnce } from './said-once.ts'
import { SlotLag } from './slot-lag.ts'
import { lossOf } from './slot-loss.ts'

export interface SlotWatchOptions {
  readonly source: Pick<SourceHandle, 'position' | 'heartbeat'>
  readonly clock: Clock
  readonly logger: Logger
  readonly intervalMs: number
  /** 0: no heartbeats. */
  readonly heartbeatMs: number
  readonly appliedLsn: () => Lsn
  /** Called once where the slot is gone or can't be used any more, with the reason. */
  readonly onLost: (reason: string) => void
}

/** With less headroom than this share of all that the server keeps for a slot, people are warned. */
const LOW_HEADROOM_SHARE = 0.2
/** With less than this, too, but not before half of it is used. */
const LOW_HEADROOM_BYTES = 256 * 2 ** 20
/** A server without a limit keeps whatever a slot needs: from here on people are told. */
const UNLIMITED_BYTES = 2 ** 30
/** Whoever wants to know where the source is gets what was known after this time. */
const ANSWER_MS = 2000

type Level = 'fine' | 'unlimited' | 'low' | 'unreserved'

/** Looks after the slot: warns before the server drops what it needs, keeps a quiet database's slot moving, and notices at once where it is lost. */
export class SlotWatch {
  readonly #options: SlotWatchOptions
  readonly #repeating: Repeating
  #level: Level = 'fine'
  #seenLsn: Lsn = -1n
  #quietSinceMs = 0
  #isLost = false
  readonly #lag = new SlotLag()
  readonly #trouble: SaidOnce
  readonly #beatTrouble: SaidOnce
  #last: SourcePosition | null = null
  #isAnswerLate = false

  constructor(options: SlotWatchOptions) {
    this.#options = options
    this.#trouble = new SaidOnce(options.logger, 'where the slot is could not be asked, so status shows what was known; it is tried again')
    this.#beatTrouble = new SaidOnce(options.logger, 'a heartbeat could not be written to the source; it is tried again')
    this.#repeating = new Repeating(options.clock, options.intervalMs, () => this.#look())
  }

  start(): void {
    this.#repeating.start()
  }

  async stop(): Promise<void> {
    await this.#repeating.stop()
  }

  /** After a new slot took the place of a lost one. */
  reset(): void {
    this.#isLost = false
    this.#level = 'fine'
  }

  /** For how long, in ms, the slot has lacked what the source had written. */
  get lagMs(): number {
    return this.#lag.ms(this.#options.clock.nowMs())
  }

  /** Where source and slot are, or were when the server answered last, which is not waited for; null where it never did. */
  async position(): Promise<SourcePosition | null> {
    // One question that waits is enough.
    if (this.#isAnswerLate) return this.#last
    const answered = new AbortController()
    const asked = this.#ask().finally(() => {
      answered.abort()
      this.#isAnswerLate = false
    })
    const late = this.#options.clock.sleep(ANSWER_MS, answered.signal).then(
      () => {
        this.#isAnswerLate = !answered.signal.aborted
        return null
      },
      () => null,
    )
    return (await Promise.race([asked, late])) ?? this.#last
  }

  async #ask(): Promise<SourcePosition | null> {
    const position = await this.#trouble.attempt(() => this.#options.source.position())
    if (position !== null) {
      this.#last = position
      this.#lag.note(position, this.#options.clock.nowMs())
    }
    return position
  }

  async #look(): Promise<void> {
    const position = await this.#ask()
    if (position === null) return
    this.#judge(position)
    await this.#beatTrouble.attempt(() => this.#beat())
  }

  #judge(position: SourcePosition): void {
    const { logger, onLost } = this.#options
    const { slot, retainedBytes } = position
    const lost = lossOf(slot)
    if (lost !== null) {
      if (!this.#isLost) onLost(lost)
      this.#isLost = true
      return
    }
    this.#isLost = false
    const headroom = slot!.headroomBytes
    const level = levelOf(slot!, retainedBytes)
    if (level === this.#level) return
    const fields = {
      retained: formatBytes(retainedBytes),
      headroom: headroom === null ? null : formatBytes(headroom),
      at: formatLsn(position.sourceLsn),
    }
    const remedy = 'Find out why the mirror is behind (moonlink status), or raise max_slot_wal_keep_size.'
    if (level === 'unreserved') logger.error(`the server is about to drop the log that the slot needs. ${remedy}`, fields)
    else if (level === 'low') logger.warn(`the slot nears max_slot_wal_keep_size. ${remedy}`, fields)
    else if (level === 'unlimited')
      logger.warn(
        'the slot makes the source keep its log, and nothing limits that. Find out why the mirror is behind (moonlink status); max_slot_wal_keep_size sets a limit.',
        fields,
      )
    else logger.info('the slot has room again', fields)
    this.#level = level
  }

  async #beat(): Promise<void> {
    const { appliedLsn, clock, heartbeatMs, source } = this.#options
    const lsn = appliedLsn()
    const now = clock.nowMs()
    if (lsn !== this.#seenLsn) {
      this.#seenLsn = lsn
      this.#quietSinceMs = now
    } else if (heartbeatMs > 0 && now - this.#quietSinceMs >= heartbeatMs) {
      this.#quietSinceMs = now
      await source.heartbeat()
    }
  }
}

/** Whether people are to be warned before the server drops what the slot needs; `headroomBytes` is null where it never does. */
export function isHeadroomLow(retainedBytes: number, headroomBytes: number | null): boolean {
  if (headroomBytes === null) return false
  const limitBytes = retainedBytes + headroomBytes
  return headroomBytes < Math.max(limitBytes * LOW_HEADROOM_SHARE, Math.min(LOW_HEADROOM_BYTES, limitBytes / 2))
}

/** Whether people are to be told that the server keeps much for the slot, and has no limit. */
export function isUnlimited(retainedBytes: number, headroomBytes: number | null): boolean {
  return headroomBytes === null && retainedBytes >= UNLIMITED_BYTES
}

function levelOf({ headroomBytes, walStatus }: NonNullable<SourcePosition['slot']>, retainedBytes: number): Level {
  if (walStatus === 'unreserved') return 'unreserved'
  if (isHeadroomLow(retainedBytes, headroomBytes)) return 'low'
  return isUnlimited(retainedBytes, headroomBytes) ? 'unlimited' : 'fine'
}
