import { isMoonlinkError } from '@moonlink/core'
import type { Dice } from './random.ts'
import { TABLES, type SimDatabase } from './sim-database.ts'
import type { SimNode } from './sim-node.ts'

type Command = 'pause' | 'resync' | 'drop' | 'purge' | 'add'

interface Done {
  readonly command: Command
  /** Which of the tables of that name it was given for; null where there was none. */
  readonly oid: number | null
}

interface UndoOptions {
  readonly breathe: () => Promise<void>
  readonly check: () => void
  /** Of a table whose files must all be gone. */
  readonly checkPurged: (table: string) => Promise<void>
  readonly isStateLost: boolean
}

/** Somebody who pauses tables, makes them equal to their source, drops and adds them. */
export class SimCommands {
  private readonly dice: Dice
  private readonly database: SimDatabase
  private readonly purgeShare: number
  /** Tables that may be copied again, since somebody said so. */
  readonly mayCopy = new Set<string>()
  fault: Error | null = null
  /** The last command of each table that succeeded, with none given since. */
  private readonly latest = new Map<string, number>()
  private given = 0
  /** Commands that have not ended, or died with their node. */
  private readonly running = new Map<string, number>()
  private readonly done = new Map<string, Done>()

  constructor(database: SimDatabase, dice: Dice, purgeShare: number) {
    this.database = database
    this.dice = dice
    this.purgeShare = purgeShare
  }

  next(node: SimNode | null): void {
    const { dice } = this
    if (node === null) return
    const table = TABLES[dice.below(TABLES.length)]
    if (this.purgeShare > 0 && dice.chance(this.purgeShare)) return void this.give(node, table, dice.chance(0.5) ? 'purge' : 'add')
    const draw = dice.next()
    const command = draw < 0.25 ? 'pause' : draw < 0.6 ? 'resync' : draw < 0.7 ? 'drop' : draw < 0.75 ? 'purge' : 'add'
    void this.give(node, table, command)
  }

  /** Everything is mirrored again. */
  async undo(node: SimNode, { breathe, check, checkPurged, isStateLost }: UndoOptions): Promise<void> {
    for (let turns = 0; !node.isUp; turns++) {
      check()
      if (turns > 20_000) throw new Error('does not start')
      await breathe()
    }
    for (const [table, { command, oid }] of this.done) {
      const isGone = command === 'drop' || command === 'purge'
      // One that is opened anew is not there for a while.
      for (let turns = 0; !isGone && node.engine.mirror(table) === undefined && turns < 2000; turns++) {
        check()
        await breathe()
      }
      const mirror = node.engine.mirror(table)
      const isPaused = mirror?.status().reason?.startsWith('PAUSED ') === true
      const isRight = command === 'pause' ? isPaused : isGone ? mirror === undefined : mirror !== undefined && !isPaused
      // What is dropped is remembered on a disk that may be lost.
      const isForgotten = isStateLost && mirror !== undefined
      // What is gone as a node starts is not mirrored any more, whatever comes after it.
      const isAnother = !isGone && mirror === undefined && this.database.currentOidOf(table) !== oid
      if (isRight && command === 'purge') await checkPurged(table)
      if (!isRight && !isForgotten && !isAnother)
        throw new Error(`${table}: ${command} was forgotten: ${mirror?.currentPhase} ${mirror?.status().reason}`)
    }
    for (const table of TABLES) {
      for (let attempts = 0; ; attempts++) {
        if (attempts === 200) throw new Error(`${table} can't be mirrored again`)
        const state = node.engine.mirror(table)?.currentPhase
        if (state === 'streaming' || state === 'copying') break
        let isDone = false
        void this.give(node, table, state === undefined ? 'add' : 'resync').then(() => (isDone = true))
        for (let turns = 0; !isDone; turns++) {
          check()
          if (turns > 20_000) throw new Error(`${table}: a command does not end`)
          await breathe()
        }
      }
    }
  }

  private async give(node: SimNode, table: string, command: Command): Promise<void> {
    const backend = node.backend!
    this.mayCopy.add(table)
    this.done.delete(table)
    const given = ++this.given
    const oid = this.database.currentOidOf(table)
    const isAlone = (this.running.get(table) ?? 0) === 0
    this.running.set(table, (this.running.get(table) ?? 0) + 1)
    this.latest.set(table, given)
    try {
      if (command === 'pause') await backend.pauseTable(table)
      else if (command === 'resync') await backend.resyncTable(table, 'by request')
      else if (command === 'add') await backend.addTables([table])
      else await backend.dropTable(table, command === 'purge')
      if (isAlone && this.latest.get(table) === given) this.done.set(table, { command, oid })
    } catch (error) {
      if (!isMoonlinkError(error) || error.kind === 'bug' || error.kind === 'corrupt') this.fault ??= error as Error
    }
    this.running.set(table, this.running.get(table)! - 1)
  }
}
