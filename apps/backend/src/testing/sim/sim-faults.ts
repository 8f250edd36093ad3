import { minLsn, type Logger, type Lsn } from '@moonlink/core'
import type { SimulatedLocalDisk } from '@moonlink/testkit'
import type { Dice } from './random.ts'
import type { SimClock } from './sim-clock.ts'
import { TABLES, type SimDatabase } from './sim-database.ts'
import { WAREHOUSE, type SimNode } from './sim-node.ts'
import { SERVERS, type SimServer } from './sim-process.ts'
import type { SimProfile } from './sim-profile.ts'
import type { SimSlot } from './sim-source.ts'
import type { SimStore } from './sim-store.ts'
import type { SimTotals } from './sim-totals.ts'

/** How long a server is away at most. */
const OUTAGE_MS = 10_000
/** How wrong clocks are at most, either way. */
export const WRONG_BY_MS = 3_600_000

/** A machine on which nodes run, one after another. */
export interface Machine {
  readonly home: string
  readonly disk: SimulatedLocalDisk
  /** By how much its clock is wrong. */
  offsetMs: number
  /** Bits have flipped on its disk. */
  isDamaged: boolean
  node: SimNode | null
}

export interface SimFaultsOptions {
  readonly dice: Dice
  readonly clock: SimClock
  readonly profile: SimProfile
  readonly database: SimDatabase
  readonly slot: SimSlot
  readonly store: SimStore
  readonly log: SimNode['log']
  readonly totals: SimTotals
  readonly logger: Logger
  /** A table is compared for what was done to it. */
  readonly onMayCopy: (table: string) => void
  /** A new primary has what was written up to `keptLsn`. */
  readonly onFailover: (keptLsn: Lsn, lost: number) => void
}

/** What happens to disks, servers and clocks, of the kinds that the seed has. */
export class SimFaults {
  /** Calls of local disks fail now and then. */
  readonly disksFail: boolean
  /** Disks and the store are full at times. */
  readonly fillsUp: boolean
  /** Bits flip in local logs, spools, key indexes, copies of files, and a state that has a copy. */
  readonly flipsBits: boolean
  /** The log is gone with its disk, what the last run knew to be in Iceberg, or the slot: tables may have to be compared with the database. */
  isStateLost = false
  private readonly options: SimFaultsOptions
  private readonly losesDisks: boolean
  /** Slots are dropped and invalidated. */
  private readonly losesSlots: boolean
  /** Standbys are promoted. */
  private readonly failsOver: boolean
  /** Until when each server is away. */
  private readonly awayUntilMs = new Map<SimServer, number>()
  /** Nothing below that is answered; null where all is. */
  private failingPrefix: string | null = null

  constructor(options: SimFaultsOptions) {
    const { dice, profile } = options
    this.options = options
    this.losesDisks = dice.chance(0.2)
    this.disksFail = dice.chance(0.3)
    this.fillsUp = dice.chance(0.3)
    this.flipsBits = dice.chance(0.3)
    this.losesSlots = dice.chance(0.25)
    this.failsOver = dice.chance(0.3) || profile.failoverShare > 0
  }

  /** Nothing is full, refused or away any more. */
  end(machines: readonly Machine[]): void {
    this.makeRoom(machines)
    this.allow()
    this.awayUntilMs.clear()
  }

  isAway(server: SimServer): boolean {
    return this.options.clock.nowMs() < (this.awayUntilMs.get(server) ?? 0)
  }

  /** Whether the store is away for that alone. */
  failsAt(uri: string): boolean {
    return this.failingPrefix !== null && uri.startsWith(this.failingPrefix)
  }

  /** What the end of its node does to a machine. True where its disk is lost. */
  cutOff({ disk }: Machine): boolean {
    const { dice, log } = this.options
    if (this.losesDisks && dice.chance(0.3)) {
      disk.lose()
      this.isStateLost ||= log !== 'store'
      return true
    }
    if (dice.chance(0.3)) disk.cutPower()
    return false
  }

  /** From here on there is little room left, or none. */
  fillUp({ disk, node }: Machine): void {
    const { dice, profile, store } = this.options
    if (!this.fillsUp) return
    if (dice.chance(0.5)) store.isFull = true
    else {
      disk.capacity = Math.min(disk.usedBytes + dice.below(2000), profile.diskBytes)
      node?.process.met.add('ENOSPC')
    }
  }

  makeRoom(machines: readonly Machine[]): void {
    const { profile, store } = this.options
    store.isFull = false
    for (const { disk } of machines) disk.capacity = profile.diskBytes
  }

  /** What only the log has may be gone with it; an index is made anew. */
  flipBit(machine: Machine): void {
    if (!this.flipsBits) return
    const { disk } = machine
    // What can be made again costs nothing.
    const { dice, totals } = this.options
    const isMade = dice.chance(0.6)
    const isVictim = (path: string) =>
      isMade
        ? path.endsWith('.idx') || path.includes('/cache/') || path.endsWith('state.json')
        : path.includes('changelog') || path.includes('waiting-changes')
    if (!disk.flipBit(isVictim)) return
    machine.isDamaged = true
    this.isStateLost ||= !isMade
    totals.flippedBits++
  }

  private allow(): void {
    this.options.store.denied.clear()
    this.failingPrefix = null
  }

  /** A server is not there for a while, for anybody. */
  goAway(): void {
    const { clock, dice, logger, totals } = this.options
    const server = SERVERS[dice.below(SERVERS.length)]
    this.awayUntilMs.set(server, clock.nowMs() + dice.below(OUTAGE_MS))
    totals.outages++
    logger.info(`the ${server} is away`)
  }

  /** The files of one table may not be written, by anybody, or the store fails at them, or neither any more. */
  denyOrAllow(): void {
    const { dice, logger, onMayCopy, store, totals } = this.options
    const { denied } = store
    if (denied.size > 0 || this.failingPrefix !== null) return this.allow()
    const table = TABLES[dice.below(TABLES.length)]
    const isFailing = dice.chance(0.4)
    const prefix = `${WAREHOUSE}/${table.replace('.', '/')}/`
    if (isFailing) this.failingPrefix = prefix
    else denied.add(prefix)
    // What it misses meanwhile is found by comparing.
    onMayCopy(table)
    totals.denials++
    logger.info(isFailing ? `the store fails at the files of ${table}` : `the files of ${table} may not be written`)
  }

  /** Dropped by somebody, or invalidated by the server: what it kept is gone, and whoever streams from it is cut off. */
  loseSlot(): void {
    const { database, dice, slot, totals } = this.options
    if (!this.losesSlots || database.forgotten === null) return
    database.loseSlot(dice.chance(0.5))
    slot.stream?.end()
    slot.stream = null
    this.isStateLost = true
    totals.slotsLost++
  }

  /** To a standby that has all, or lacks the last transactions, with the slot or without. */
  failOver(): void {
    const { database, dice, logger, onFailover, slot, totals } = this.options
    if (!this.failsOver) return
    const lost = dice.chance(0.4) ? 0 : Math.min(dice.below(8), database.losable)
    const keptLsn = database.endBefore(lost)
    const lagging = database.endBefore(lost + dice.below(4))
    const { forgotten, toldThrough } = database
    const hasSlot = forgotten !== null && dice.chance(0.7)
    const isMissed = toldThrough > keptLsn && lost > 0
    database.failOver({ lost, slotLsn: hasSlot ? minLsn(forgotten, lagging) : null })
    slot.stream?.end()
    slot.stream = null
    this.isStateLost ||= isMissed || !hasSlot
    onFailover(keptLsn, lost)
    totals.failovers++
    if (isMissed) totals.divergences++
    logger.info(`failover: ${lost} transactions are lost, the log ends at ${database.endLsn}, the slot is at ${database.forgotten}`)
  }

  /** As an administrator or a time service would, who may be wrong. */
  setClock(machine: Machine): void {
    const { dice, totals } = this.options
    machine.offsetMs = Math.floor((dice.next() * 2 - 1) * WRONG_BY_MS)
    totals.clocksSet++
  }
}
