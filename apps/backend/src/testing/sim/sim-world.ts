import { isMoonlinkError, type Logger } from '@moonlink/core'
import { SimulatedLocalDisk } from '@moonlink/testkit'
import { isList, listedIn } from '../listed-files.ts'
import { Dice } from './random.ts'
import { SimCatalogServer } from './sim-catalog.ts'
import { nextTurn, SimClock } from './sim-clock.ts'
import { same } from './sim-compare.ts'
import { SimCommands } from './sim-commands.ts'
import { SimDatabase, TABLES } from './sim-database.ts'
import { SimFaults, WRONG_BY_MS, type Machine } from './sim-faults.ts'
import { SimLoad } from './sim-load.ts'
import { SimNode, STATE_DIR, WAREHOUSE } from './sim-node.ts'
import { SimProcess } from './sim-process.ts'
import { profileOf, type SimProfile } from './sim-profile.ts'
import { SimReader } from './sim-reader.ts'
import { SimSlot } from './sim-source.ts'
import { SimStore } from './sim-store.ts'
import { takeOver } from './sim-takeover.ts'
import type { SimTotals } from './sim-totals.ts'
import { SimWarehouse } from './sim-warehouse.ts'

/** Simulated time that everything takes at most once faults are over. */
const SETTLE_MS = 600_000
/** Codes of what ends a node that met it: the store refuses what is written. */
const ENDING: ReadonlySet<string> = new Set(['STORE_NOT_WRITABLE', 'STORE_FULL'])
/** Codes of what passes: a node that ends and met it waits for none of it. */
const PASSING: ReadonlySet<string> = new Set(['STORE_UNAVAILABLE', 'CATALOG_UNAVAILABLE', 'PARQUET_WORKER_LOST'])
/** Its own readers hold what it needs room for: a node that ends waits for none of them either. */
const CACHE_BUSY = 'CACHE_BUSY'
/** Chance that a step of the event loop goes by without one of the world's. */
const BREATHS = 4

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
  private readonly faults: SimFaults
  private readonly machines: readonly Machine[]
  private readonly log: SimNode['log']
  /** Of each node's cache of files; null where nodes have none. */
  private readonly cacheBytes: number | null
  private readonly totals: SimTotals
  private readonly logger: Logger
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
    this.commands = new SimCommands(this.database, dice, this.profile.purgeShare)
    this.faults = new SimFaults({
      dice,
      totals,
      logger,
      clock: this.clock,
      profile: this.profile,
      database: this.database,
      slot: this.slot,
      store: this.store,
      log: this.log,
      onMayCopy: (table) => this.commands.mayCopy.add(table),
      onFailover: (keptLsn, lost) => {
        if (lost > 0) this.load.lostKeys()
        this.reader.failedOver(keptLsn)
      },
    })
    this.cacheBytes = dice.chance(0.5) ? 2000 + dice.below(20_000) : null
    const server = { store: this.store, warehouse: WAREHOUSE, clock: this.clock, random: dice.random }
    this.catalog = dice.chance(0.4) ? new SimCatalogServer(server) : null
    const homes = this.log === 'store' ? ['here', 'there'] : ['here']
    this.machines = homes.map((home) => ({
      home,
      disk: new SimulatedLocalDisk({ next: dice.next }),
      offsetMs: 0,
      isDamaged: false,
      node: null,
    }))
    this.faults.makeRoom(this.machines)
    this.load = new SimLoad(this.database, dice, dice.chance(0.5), this.profile)
    this.warehouse = new SimWarehouse(this.store, { clock: this.clock, random: dice.random })
    const readsTablesAlone = this.profile.commandShare > 0 || this.profile.remakeShare > 0
    const mayLoseFiles = (node: SimNode, tables: readonly string[]) =>
      this.slot.owner !== node.process || tables.some((table) => this.commands.mayCopy.has(table))
    const { clock, database, store } = this
    this.reader = new SimReader({ database, store, clock, dice, totals, readsTablesAlone, mayLoseFiles })
    // The first copy has something to read, and is cut off now and then.
    for (let count = dice.below(40); count > 0; count--) this.load.transact()
  }

  /** Something happens, whatever it is. */
  async step(): Promise<void> {
    const { dice } = this
    this.throwFault()
    for (const machine of this.machines) if (machine.node?.process.isAlive !== true && dice.chance(0.7)) await this.restart(machine)
    const machine = this.machines[dice.below(this.machines.length)]
    const { commandShare, denialShare, deposeShare, failoverShare, killShare } = this.profile
    const { outageShare, resumeShare, slotShare, stillShare, stopShare } = this.profile
    if (commandShare > 0 && dice.chance(commandShare)) this.commands.next(this.active)
    if (killShare > 0 && dice.chance(killShare)) machine.node?.process.kill()
    if (outageShare > 0 && dice.chance(outageShare)) this.faults.goAway()
    if (denialShare > 0 && dice.chance(denialShare)) this.faults.denyOrAllow()
    if (stopShare > 0 && dice.chance(stopShare)) await this.stop(machine)
    if (stillShare > 0 && dice.chance(stillShare)) this.standStill(machine)
    if (resumeShare > 0 && dice.chance(resumeShare)) for (const { node } of this.machines) node?.process.resume()
    if (this.machines.length > 1 && dice.chance(deposeShare)) await this.depose()
    if (slotShare > 0 && dice.chance(slotShare)) this.faults.loseSlot()
    if (failoverShare > 0 && dice.chance(failoverShare)) this.faults.failOver()
    const draw = dice.next()
    if (draw < 0.45) this.load.transact()
    else if (draw < 0.55) await this.breathe()
    else if (draw < 0.63) void this.active?.engine.flush().catch(() => undefined)
    else if (draw < 0.89) await this.read()
    else if (draw < 0.9) this.faults.failOver()
    else if (draw < 0.915) machine.node?.process.kill()
    else if (draw < 0.92) await this.stop(machine)
    else if (draw < 0.94) this.standStill(machine)
    else if (draw < 0.96) for (const { node } of this.machines) node?.process.resume()
    else if (draw < 0.97) this.faults.fillUp(machine)
    else if (draw < 0.98) this.faults.makeRoom(this.machines)
    else if (draw < 0.988) this.faults.flipBit(machine)
    else if (draw < 0.996) this.faults.loseSlot()
    else this.faults.setClock(machine)
    await this.breathe()
  }

  /** Goes on without faults until all is committed; then memory, Iceberg and the database are the same. */
  async finish(): Promise<void> {
    for (const { node } of this.machines) node?.process.kill()
    this.faults.end(this.machines)
    const [machine] = this.machines
    // Else it is there again while a node runs that did without it.
    if (this.profile.remakeShare > 0 && this.dice.chance(0.5)) this.load.makeMissing()
    await this.restart(machine, true)
    const node = machine.node!
    const { database } = this
    // What lacks something that was read is waited for.
    while (database.endLsn <= database.pastEndLsn) this.load.transact()
    this.load.makeMissing()
    await this.commands.undo(node, {
      breathe: () => this.breathe(),
      check: () => this.throwFault(),
      checkPurged: (table) => this.warehouse.checkNothingLeft(this.listed(), [table]),
      isStateLost: this.faults.isStateLost,
    })
    await this.settle(node)
    const hold = () => this.atRest(node, () => this.reader.hold(node, SETTLE_MS))
    const readAgain = await hold()
    // Another's end takes nothing from it.
    await (
      await hold()
    )()
    // What is due comes in time all the same.
    machine.offsetMs -= WRONG_BY_MS
    for (let count = this.dice.below(4); count > 0; count--) this.load.transact()
    this.load.makeMissing()
    await this.settle(node)
    for (let breath = 0; breath < 40 || (breath < 400 && database.forgotten !== database.endLsn); breath++) await this.breathe()
    await readAgain()
    const lease = await this.atRest(node, () => node.engine.acquire({ tables: TABLES, lsn: null, timeoutMs: SETTLE_MS }))
    for (const [name, plan] of lease.tables) same(await this.reader.shown(plan), database.at(name, database.endLsn)!, `${name} at the end`)
    lease.release()
    await this.warehouse.check(database, this.totals)
    for (const name of TABLES)
      same((await this.warehouse.read(name))!.rows, database.at(name, database.endLsn)!, `${name} in Iceberg at the end`)
    this.throwFault()
    if (database.forgotten !== database.endLsn) throw new Error(`the slot was not told what is safe: ${this.describe(node)}`)
    this.totals.remakes += database.remakes
    await node.stop()
    this.throwFault()
    await this.warehouse.check(database, this.totals)
    await this.warehouse.checkNothingLeft(this.listed(), TABLES)
  }

  /** What machines have listed as files that may be in no snapshot. */
  private listed(): string {
    return listedIn(this.machines.flatMap(({ disk }) => disk.textsOf(isList)))
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

  /** A table that was made anew may be noticed, and compared, only once all is at rest. */
  private async atRest<T>(node: SimNode, read: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await read()
      } catch (error) {
        if (!isMoonlinkError(error, 'retry') || error.code !== 'TABLE_RESYNCING') throw error
        await this.settle(node)
      }
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
      if (this.faults.cutOff(machine)) await this.warehouse.excuseWhatIsThere()
      // Lists of files may have a line less.
      if (this.faults.flipsBits) await this.warehouse.excuseWhatIsThere()
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
      travelTurns: isGentle || dice.chance(0.6) ? 0 : 1 + dice.below(8),
      isAway: (server) => this.faults.isAway(server),
      failsAt: (uri) => this.faults.failsAt(uri),
      onDiskError: () => this.totals.diskErrors++,
      onRequestFault: () => this.totals.requestFaults++,
      onThreadLost: () => this.totals.lostThreads++,
      onWrite: (uri) => this.warehouse.noteWrite(uri),
    })
    if (Number.isFinite(machine.disk.capacity)) process.met.add('ENOSPC')
    const node = new SimNode({
      database,
      slot,
      process,
      store,
      catalog: this.catalog,
      disk: process.disk(machine.disk, this.faults.disksFail && !isGentle ? [STATE_DIR] : []),
      cacheBytes: this.cacheBytes,
      dice,
      profile: this.profile,
      log,
      home: machine.home,
      logger: this.noting(),
      onCopy: (copying, table) => this.noteCopy(copying, table),
      mayEndBy: (code) => (ENDING.has(code) && process.met.has(code)) || (machine.isDamaged && code === 'LOG_CORRUPT'),
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
      if (message.startsWith('changes of a table that can not be opened are not kept')) this.commands.mayCopy.add(String(fields?.['table']))
    }
    return {
      debug,
      info,
      warn: (message, fields) => (note(message, fields), warn(message, fields)),
      error: (message, fields) => (note(message, fields), error(message, fields)),
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

  /** One that stands still is taken over from, and comes back. */
  private async depose(): Promise<void> {
    const { active: from, clock, dice } = this
    const other = this.machines.find(({ node }) => node !== from)
    if (from === null || other === undefined) return
    if (other.node?.process.isAlive !== true) await this.restart(other)
    const to = other.node!
    to.process.resume()
    await takeOver({ clock, dice, from, to, transact: () => this.load.transact(), read: (node) => this.reader.read(node) })
    if (to.hasLease) this.totals.depositions++
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
    const committedLsn = node.engine.mirror(table)?.committedLsn ?? null
    if (committedLsn === null) return
    this.totals.resyncs++
    if (this.faults.isStateLost || this.commands.mayCopy.has(table)) return
    if ((this.database.rewrittenAt(table) ?? 0n) > committedLsn) return
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
    for (const { isDamaged, node } of this.machines) {
      if (node === null) continue
      if (node.fault !== null) throw node.fault
      for (const { state, reason, table } of node.engine.status()) {
        const code = reason?.split(' ')[0] ?? ''
        const isFault =
          state === 'failed' &&
          node.process.isAlive &&
          !(code === 'OTHER_MIRROR' && this.machines.length > 1) &&
          !(node.isEnding && (code === CACHE_BUSY || (PASSING.has(code) && node.process.met.has(code)))) &&
          !(isDamaged && code === 'SPOOL_CORRUPT')
        if (isFault) throw new Error(`${table.name} failed: ${reason}`)
      }
    }
  }
}
