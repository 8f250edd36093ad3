import { minLsn, type Logger } from '@moonlink/core'
import { SimulatedLocalDisk } from '@moonlink/testkit'
import { Dice } from './random.ts'
import { SimCatalogServer } from './sim-catalog.ts'
import { nextTurn, SimClock } from './sim-clock.ts'
import { same } from './sim-compare.ts'
import { SimCommands } from './sim-commands.ts'
import { SimDatabase, TABLES } from './sim-database.ts'
import { SimLoad } from './sim-load.ts'
import { SimNode, STATE_DIR, WAREHOUSE } from './sim-node.ts'
import { SERVERS, SimProcess, type SimServer } from './sim-process.ts'
import { profileOf, type SimProfile } from './sim-profile.ts'
import { SimReader } from './sim-reader.ts'
import { SimSlot } from './sim-source.ts'
import { SimStore } from './sim-store.ts'
import type { SimTotals } from './sim-totals.ts'
import { SimWarehouse } from './sim-warehouse.ts'

/** Simulated time that everything takes at most once faults are over. */
const SETTLE_MS = 600_000
/** How long a server is away at most. */
const OUTAGE_MS = 10_000
/** How wrong clocks are at most, either way. */
const WRONG_BY_MS = 3_600_000
/** Chance that a step of the event loop goes by without one of the world's. */
const BREATHS = 4

/** A machine on which nodes run, one after another. */
interface Machine {
  readonly home: string
  readonly disk: SimulatedLocalDisk
  /** By how much its clock is wrong. */
  offsetMs: number
  node: SimNode | null
}

/** A database, a warehouse, machines with nodes on them, and all that happens to them: everything that a seed decides. */
export class SimWorld {
  readonly clock = new SimClock()
  readonly dice: Dice
  readonly profile: SimProfile
  private readonly store: SimStore
  private readonly database = new SimDatabase()
  private readonly slot = new SimSlot()
  /** Null where nodes keep the catalog in the store. */
  private readonly catalog: SimCatalogServer | null
  private readonly load: SimLoad
  private readonly warehouse: SimWarehouse
  private readonly reader: SimReader
  private readonly commands: SimCommands
  private readonly machines: readonly Machine[]
  private readonly log: SimNode['log']
  private readonly losesDisks: boolean
  /** Calls of local disks fail now and then. */
  private readonly disksFail: boolean
  /** Disks and the store are full at times. */
  private readonly fillsUp: boolean
  /** Bits flip in local logs, spools, key indexes and copies of files. */
  private readonly flipsBits: boolean
  /** Slots are dropped and invalidated. */
  private readonly losesSlots: boolean
  /** Standbys are promoted. */
  private readonly failsOver: boolean
  /** Until when each server is away. */
  private readonly awayUntilMs = new Map<SimServer, number>()
  /** Of each node's cache of files; null where nodes have none. */
  private readonly cacheBytes: number | null
  private readonly totals: SimTotals
  private readonly logger: Logger
  /** The log is gone with its disk, what the last run knew to be in Iceberg, or the slot: tables may have to be compared with the database. */
  private isStateLost = false
  private fault: Error | null = null

  constructor(seed: number, totals: SimTotals, logger: Logger) {
    const dice = new Dice(seed)
    this.dice = dice
    this.profile = profileOf(new Dice(~seed))
    this.totals = totals
    this.logger = logger
    this.store = new SimStore(this.clock, logger, () => totals.refusedWrites++)
    const draw = dice.next()
    this.log = draw < 0.55 ? 'local' : draw < 0.85 ? 'store' : 'none'
    this.losesDisks = dice.chance(0.2)
    this.disksFail = dice.chance(0.3)
    this.fillsUp = dice.chance(0.3)
    this.flipsBits = dice.chance(0.3)
    this.losesSlots = dice.chance(0.25)
    this.failsOver = dice.chance(0.3) || this.profile.failoverShare > 0
    this.cacheBytes = dice.chance(0.5) ? 2000 + dice.below(20_000) : null
    const server = { store: this.store, warehouse: WAREHOUSE, clock: this.clock, random: dice.random }
    this.catalog = dice.chance(0.4) ? new SimCatalogServer(server) : null
    const homes = this.log === 'store' ? ['here', 'there'] : ['here']
    this.machines = homes.map((home) => ({ home, disk: new SimulatedLocalDisk({ next: dice.next }), offsetMs: 0, node: null }))
    this.makeRoom()
    this.load = new SimLoad(this.database, dice, dice.chance(0.5), this.profile)
    this.commands = new SimCommands(dice)
    this.warehouse = new SimWarehouse(this.store, { clock: this.clock, random: dice.random })
    const readsTablesAlone = this.profile.commandShare > 0
    this.reader = new SimReader({ database: this.database, store: this.store, clock: this.clock, dice, totals, readsTablesAlone })
    // The first copy has something to read, and is cut off now and then.
    for (let count = dice.below(40); count > 0; count--) this.load.transact()
  }

  /** Something happens, whatever it is. */
  async step(): Promise<void> {
    const { dice } = this
    this.throwFault()
    for (const machine of this.machines) if (machine.node?.process.isAlive !== true && dice.chance(0.7)) await this.restart(machine)
    const machine = this.machines[dice.below(this.machines.length)]
    const { commandShare, denialShare, failoverShare, killShare, outageShare, resumeShare, slotShare, stillShare, stopShare } = this.profile
    if (commandShare > 0 && dice.chance(commandShare)) this.commands.next(this.active)
    if (killShare > 0 && dice.chance(killShare)) machine.node?.process.kill()
    if (outageShare > 0 && dice.chance(outageShare)) this.goAway()
    if (denialShare > 0 && dice.chance(denialShare)) this.denyOrAllow()
    if (stopShare > 0 && dice.chance(stopShare)) await this.stop(machine)
    if (stillShare > 0 && dice.chance(stillShare)) this.standStill(machine)
    if (resumeShare > 0 && dice.chance(resumeShare)) for (const { node } of this.machines) node?.process.resume()
    if (slotShare > 0 && dice.chance(slotShare)) this.loseSlot()
    if (failoverShare > 0 && dice.chance(failoverShare)) this.failOver()
    const draw = dice.next()
    if (draw < 0.45) this.load.transact()
    else if (draw < 0.55) await this.breathe()
    else if (draw < 0.63) void this.active?.engine.flush().catch(() => undefined)
    else if (draw < 0.89) await this.read()
    else if (draw < 0.9) this.failOver()
    else if (draw < 0.915) machine.node?.process.kill()
    else if (draw < 0.92) await this.stop(machine)
    else if (draw < 0.94) this.standStill(machine)
    else if (draw < 0.96) for (const { node } of this.machines) node?.process.resume()
    else if (draw < 0.97) this.fillUp(machine)
    else if (draw < 0.98) this.makeRoom()
    else if (draw < 0.988) this.flipBit(machine)
    else if (draw < 0.996) this.loseSlot()
    else this.setClock(machine)
    await this.breathe()
  }

  /** Goes on without faults until all is committed; then memory, Iceberg and the database are the same. */
  async finish(): Promise<void> {
    for (const { node } of this.machines) node?.process.kill()
    this.makeRoom()
    this.store.denied.clear()
    this.awayUntilMs.clear()
    const [machine] = this.machines
    await this.restart(machine, true)
    const node = machine.node!
    const { database } = this
    // What lacks something that was read is waited for.
    while (database.endLsn <= database.pastEndLsn) this.load.transact()
    await this.commands.undo(
      node,
      () => this.breathe(),
      () => this.throwFault(),
      this.isStateLost,
    )
    await this.settle(node)
    // What is due comes in time all the same.
    machine.offsetMs -= WRONG_BY_MS
    for (let count = this.dice.below(4); count > 0; count--) this.load.transact()
    await this.settle(node)
    for (let breath = 0; breath < 40 || (breath < 400 && database.forgotten !== database.endLsn); breath++) await this.breathe()
    const lease = await node.engine.acquire({ tables: TABLES, lsn: null, timeoutMs: SETTLE_MS })
    for (const [name, plan] of lease.tables) same(await this.reader.shown(plan), database.at(name, database.endLsn), `${name} at the end`)
    lease.release()
    await this.warehouse.check(database, this.totals)
    for (const name of TABLES)
      same((await this.warehouse.read(name))!.rows, database.at(name, database.endLsn), `${name} in Iceberg at the end`)
    this.throwFault()
    if (database.forgotten !== database.endLsn) throw new Error(`the slot was not told what is safe: ${this.describe(node)}`)
    await node.stop()
    this.throwFault()
    await this.warehouse.check(database, this.totals)
    await this.warehouse.checkNothingLeft(this.machines.map(({ disk }) => disk.textOf((path) => path.includes('staged'))).join('\n'))
  }

  /** Goes on until Iceberg has all. */
  private async settle(node: SimNode): Promise<void> {
    const { database } = this
    const deadlineMs = this.clock.nowMs() + SETTLE_MS
    const isSettled = () =>
      node.isUp &&
      node.engine.status().length === TABLES.length &&
      node.engine.status().every(({ state, durableLsn }) => state === 'streaming' && durableLsn !== null && durableLsn >= database.endLsn)
    let flushing: Promise<unknown> | null = null
    while (!isSettled()) {
      this.throwFault()
      if (this.clock.nowMs() > deadlineMs) throw new Error(`nothing settles: ${this.describe(node)}`)
      flushing ??= node.engine
        .flush()
        .catch(() => undefined)
        .finally(() => (flushing = null))
      await this.breathe()
    }
  }

  dispose(): void {
    for (const { node } of this.machines) node?.process.kill()
    this.clock.stop()
  }

  /** The node that serves: of two, the one that came up last. Whoever stands still answers nobody: what it holds may be old by now. */
  private get active(): SimNode | null {
    const up = this.machines.flatMap(({ node }) => (node?.isUp === true && !node.process.standsStill ? [node] : []))
    return up.find((node) => this.slot.owner === node.process) ?? up.at(-1) ?? null
  }

  /** The node that a reader comes to: now and then not the one that serves, which may not know yet that another has taken over. */
  private get asked(): SimNode | null {
    if (this.dice.chance(0.7)) return this.active
    const up = this.machines.flatMap(({ node }) => (node?.isUp === true && !node.process.standsStill ? [node] : []))
    return up.length === 0 ? null : up[this.dice.below(up.length)]
  }

  /** Starts a node on what the one before it left. */
  private async restart(machine: Machine, isGentle = false): Promise<void> {
    const { clock, database, dice, log, slot, store } = this
    if (machine.node !== null) {
      this.totals.crashes++
      await this.cutOff(machine)
      // Lists of files may have a line less.
      if (this.flipsBits) await this.warehouse.excuseWhatIsThere()
      if (dice.chance(0.3)) await this.warehouse.check(database, this.totals)
    }
    await machine.disk.session().makeDirectory(STATE_DIR)
    const process = new SimProcess({
      dice,
      clock,
      wallMs: () => clock.nowMs() + machine.offsetMs,
      failing: isGentle || dice.chance(0.5) ? 0 : this.profile.failing,
      crashAt: isGentle || dice.chance(0.2) ? Number.POSITIVE_INFINITY : 10 + dice.below(this.profile.crashCalls),
      crashesAfterEffect: dice.chance(0.5),
      isAway: (server) => clock.nowMs() < (this.awayUntilMs.get(server) ?? 0),
      onDiskError: () => this.totals.diskErrors++,
      onRequestFault: () => this.totals.requestFaults++,
      onThreadLost: () => this.totals.lostThreads++,
      // It may come after its file was removed for good.
      onLate: (uri) => this.warehouse.excuse(uri),
    })
    const node = new SimNode({
      database,
      slot,
      process,
      store,
      catalog: this.catalog,
      disk: process.disk(machine.disk, this.disksFail && !isGentle ? [STATE_DIR] : []),
      cacheBytes: this.cacheBytes,
      dice,
      profile: this.profile,
      log,
      home: machine.home,
      logger: this.noting(),
      onCopy: (copying, table) => this.noteCopy(copying, table),
      mayEndBy: (code) =>
        (this.profile.denialShare > 0 && code === 'STORE_NOT_WRITABLE') ||
        (this.fillsUp && code === 'STORE_FULL') ||
        (this.flipsBits && code === 'LOG_CORRUPT'),
      onRangeRead: (done) => {
        if (done > 0) this.totals.rangesResumed++
      },
    })
    machine.node = node
    void node.started.then(() => {
      if (node.isUp && this.log === 'store') this.totals.takeovers++
    })
    if (dice.chance(0.5)) return
    // Else everything goes on beside its start and its copies.
    for (let breath = 0; breath < 200 && !node.isUp && process.isAlive; breath++) await this.breathe()
  }

  /** A table that could not be opened is compared where slot and log did not keep what it missed: they do so up to a bound. */
  private noting(): Logger {
    const { debug, error, info, warn } = this.logger
    const note = (message: string, fields?: Readonly<Record<string, unknown>>) => {
      if (message.startsWith('the table could not be opened')) this.commands.mayCopy.add(String(fields?.['table']))
    }
    return {
      debug,
      info,
      warn: (message, fields) => (note(message, fields), warn(message, fields)),
      error: (message, fields) => (note(message, fields), error(message, fields)),
    }
  }

  /** What the end of its node does to a machine. */
  private async cutOff({ disk }: Machine): Promise<void> {
    const { dice } = this
    if (this.losesDisks && dice.chance(0.3)) {
      disk.lose()
      await this.warehouse.excuseWhatIsThere()
      this.isStateLost ||= this.log !== 'store'
    } else if (dice.chance(0.3)) {
      disk.cutPower()
    }
  }

  private async stop({ node }: Machine): Promise<void> {
    node?.process.resume()
    await node?.stop()
  }

  /** A pause, as of a machine that swaps or is moved: whoever waits may take over. */
  private standStill({ node }: Machine): void {
    node?.process.pause()
    // Long enough for that, now and then.
    this.clock.advance(this.dice.below(3) * 4000)
  }

  /** From here on there is little room left, or none. */
  private fillUp({ disk }: Machine): void {
    const { dice, store } = this
    if (!this.fillsUp) return
    if (dice.chance(0.5)) store.isFull = true
    else disk.capacity = Math.min(disk.usedBytes + dice.below(2000), this.profile.diskBytes)
  }

  private makeRoom(): void {
    this.store.isFull = false
    for (const { disk } of this.machines) disk.capacity = this.profile.diskBytes
  }

  /** What only the log has may be gone with it; an index is made anew. */
  private flipBit({ disk }: Machine): void {
    if (!this.flipsBits) return
    // What can be made again costs nothing.
    const isMade = this.dice.chance(0.6)
    const isVictim = (path: string) =>
      isMade ? path.endsWith('.idx') || path.includes('/cache/') : path.includes('changelog') || path.includes('waiting-changes')
    if (!disk.flipBit(isVictim)) return
    this.isStateLost ||= !isMade
    this.totals.flippedBits++
  }

  /** A server is not there for a while, for anybody. */
  private goAway(): void {
    const { awayUntilMs, clock, dice } = this
    const server = SERVERS[dice.below(SERVERS.length)]
    awayUntilMs.set(server, clock.nowMs() + dice.below(OUTAGE_MS))
    this.totals.outages++
    this.logger.info(`the ${server} is away`)
  }

  /** The files of one table may not be written, by anybody, or may again. */
  private denyOrAllow(): void {
    const { denied } = this.store
    if (denied.size > 0) return denied.clear()
    const table = TABLES[this.dice.below(TABLES.length)]
    denied.add(`${WAREHOUSE}/${table.replace('.', '/')}/`)
    // What it misses meanwhile is found by comparing.
    this.commands.mayCopy.add(table)
    this.totals.denials++
    this.logger.info(`the files of ${table} may not be written`)
  }

  /** Dropped by somebody, or invalidated by the server: what it kept is gone, and whoever streams from it is cut off. */
  private loseSlot(): void {
    const { database, dice, slot } = this
    if (!this.losesSlots || database.forgotten === null) return
    database.loseSlot(dice.chance(0.5))
    slot.stream?.end()
    slot.stream = null
    this.isStateLost = true
    this.totals.slotsLost++
  }

  /** To a standby that has all, or lacks the last transactions, with the slot or without. */
  private failOver(): void {
    const { database, dice, slot } = this
    if (!this.failsOver) return
    const lost = dice.chance(0.4) ? 0 : Math.min(dice.below(8), database.losable)
    const keptLsn = database.endBefore(lost)
    const lagging = database.endBefore(lost + dice.below(4))
    const { forgotten, toldThrough } = database
    const hasSlot = forgotten !== null && dice.chance(0.7)
    const isMissed = toldThrough > keptLsn && lost > 0
    database.failOver({ lost, slotLsn: hasSlot ? minLsn(forgotten, lagging) : null })
    if (lost > 0) this.load.lostKeys()
    slot.stream?.end()
    slot.stream = null
    this.isStateLost ||= isMissed || !hasSlot
    this.reader.failedOver(keptLsn)
    this.totals.failovers++
    if (isMissed) this.totals.divergences++
    this.logger.info(`failover: ${lost} transactions are lost, the log ends at ${database.endLsn}, the slot is at ${database.forgotten}`)
  }

  /** As an administrator or a time service would, who may be wrong. */
  private setClock(machine: Machine): void {
    machine.offsetMs = Math.floor((this.dice.next() * 2 - 1) * WRONG_BY_MS)
    this.totals.clocksSet++
  }

  /** Lets the nodes work for a moment. */
  private async breathe(): Promise<void> {
    for (let turn = 0; turn < BREATHS; turn++) await nextTurn()
    this.clock.advance(60)
  }

  private async read(): Promise<void> {
    const node = this.asked
    if (node !== null) await this.reader.read(node)
  }

  /** A table that is in Iceberg is copied again only where it must be: what was acknowledged is in the log or in Iceberg. */
  private noteCopy(node: SimNode, table: string): void {
    if (node.engine.mirror(table)?.committedLsn == null) return
    this.totals.resyncs++
    if (this.isStateLost || this.database.rewritten.has(table) || this.commands.mayCopy.has(table)) return
    this.fault ??= new Error(`${table} is copied again, so changes that were acknowledged are lost: ${this.describe(node)}`)
  }

  private describe({ engine }: SimNode): string {
    const states = engine.status().map(({ table, state, reason, committedLsn }) => `${table.name} ${state} ${reason ?? ''} ${committedLsn}`)
    return `${states.join('; ')}; applied ${engine.appliedLsn} of ${this.database.endLsn}, acknowledged ${this.database.forgotten}`
  }

  private throwFault(): void {
    if (this.fault !== null) throw this.fault
    if (this.database.fault !== null) throw this.database.fault
    if (this.commands.fault !== null) throw this.commands.fault
    for (const { node } of this.machines) {
      if (node === null) continue
      if (node.fault !== null) throw node.fault
      for (const { state, reason, table } of node.engine.status()) {
        const isFault =
          state === 'failed' &&
          node.process.isAlive &&
          reason?.startsWith('OTHER_MIRROR') !== true &&
          !(this.flipsBits && reason?.startsWith('SPOOL_CORRUPT') === true)
        if (isFault) throw new Error(`${table.name} failed: ${reason}`)
      }
    }
  }
}
