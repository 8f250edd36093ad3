import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { TablesAtRest } from './at-rest.ts'
import { SESSIONS, type Command, type Scenario, type SessionStep } from './commands.ts'
import { Dice } from './dice.ts'
import { OracleMirror } from './mirror.ts'
import { changeDdlTriggers } from '@moonlink/pg-source'
import { chooseChange } from './alterations.ts'
import { chooseOperation } from './operations.ts'
import type { Session, Traces } from './session.ts'
import { OracleSource } from './source.ts'
import { bulkTable, filteredTable, makeTable, notesTable, partitionedTable, type OracleTable } from './tables.ts'

export interface RunOptions {
  /** An empty database of its own. */
  readonly connectionString: string
  /** For the state of the backend, and the trace. */
  readonly directory: string
  /** Told when the backend is stopped and its Iceberg tables can be read in peace. */
  readonly onRest?: (source: OracleSource, warehouse: string) => Promise<void>
}

export interface RunReport {
  readonly commits: number
  readonly reads: number
  /** Reads at LSNs that are not held any more, or not shown yet. */
  readonly refused: number
  readonly snapshots: number
  /** Transactions that Postgres sent before they ended. */
  readonly streamed: number
  /** How often each operation and each command was played, by name. */
  readonly played: ReadonlyMap<string, number>
}

/** Plays a scenario on a real Postgres and a real backend, and compares. What it threw names a file with every statement. */
export async function playScenario(scenario: Scenario, options: RunOptions): Promise<RunReport> {
  mkdirSync(options.directory, { recursive: true })
  const trace: string[] = []
  const run = await OracleRun.create(scenario, options, (line) => trace.push(line))
  try {
    await run.begin(scenario)
    for (const command of scenario.commands) {
      trace.push(`-- ${JSON.stringify(command)}`)
      await run.do(command)
      run.count(command.kind)
    }
    return await run.finish()
  } catch (error) {
    const file = join(options.directory, 'trace.sql')
    writeFileSync(file, `${trace.join('\n')}\n-- ${String(error)}\n`)
    await run.describe()
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nstatements: ${file}`, { cause: error })
  } finally {
    await run.close()
  }
}

const publicationOf = ({ given }: Scenario) => (given === null ? null : 'given')

class OracleRun {
  readonly #options: RunOptions
  readonly #schemaChanges: Scenario['schemaChanges']
  readonly #source: OracleSource
  readonly #mirror: OracleMirror
  readonly #atRest: TablesAtRest
  readonly #played = new Map<string, number>()

  private constructor(scenario: Scenario, options: RunOptions, source: OracleSource) {
    this.#options = options
    this.#schemaChanges = scenario.schemaChanges
    this.#source = source
    const state = join(options.directory, 'state')
    this.#mirror = new OracleMirror(source, options.connectionString, state, scenario.settings, publicationOf(scenario))
    this.#atRest = new TablesAtRest(this.#mirror.warehouse)
  }

  static async create(scenario: Scenario, options: RunOptions, trace: (line: string) => void): Promise<OracleRun> {
    const isTold = scenario.schemaChanges !== 'found'
    const { given, partitioned, tellsTruncations } = scenario
    const make = (hasFilter: boolean): OracleTable[] =>
      [
        ...scenario.tables.map(makeTable),
        ...(partitioned === null ? [] : [{ ...partitionedTable(partitioned), tellsTruncations }]),
        ...(given === null ? [] : [filteredTable(given, hasFilter)]),
        bulkTable,
        notesTable,
      ].map((table) => (given === null ? table : { ...table, isGiven: true }))
    const source = await OracleSource.connect(options.connectionString, make, SESSIONS, isTold, trace)
    return new OracleRun(scenario, options, source)
  }

  /** Makes the tables, with rows to copy, and starts the mirror. */
  async begin(scenario: Scenario): Promise<void> {
    const { schemaChanges, tellsTruncations: partitions } = scenario
    await this.#source.define(publicationOf(scenario))
    if (schemaChanges === 'told') await changeDdlTriggers(this.#options.connectionString, 'install', { partitions })
    for (const [index, table] of this.#source.tables.entries()) await this.#statement(this.#source.sessions[0], table, index + 1)
    await this.#mirror.start()
    this.#source.started()
  }

  async do(command: Command): Promise<void> {
    const { sessions, tables } = this.#source
    switch (command.kind) {
      case 'statement': {
        const session = sessions[command.session]
        if (command.begins && !session.isOpen) await session.begin()
        return this.#statement(session, tables[command.table % tables.length], command.seed)
      }
      case 'alter':
        return this.#alter(command)
      case 'savepoint':
      case 'back to savepoint':
      case 'commit':
      case 'roll back':
      case 'prepare':
        if (sessions[command.session].isOpen) await this.#control(sessions[command.session], command.kind, new Dice(command.seed))
        return
      case 'commit prepared':
        return this.#endPrepared('COMMIT', new Dice(command.seed))
      case 'roll back prepared':
        return this.#endPrepared('ROLLBACK', new Dice(command.seed))
      case 'crash Postgres':
        await this.#source.crash()
        return this.#source.wentBack()
      case 'burst':
        return this.#burst(new Dice(command.seed))
      case 'check':
        return this.#mirror.check(new Dice(command.seed), 'some')
      case 'flush':
        return this.#mirror.flush()
      case 'flush beside':
        return this.#mirror.flushBeside()
      case 'resync':
        return this.#mirror.resync(tables[command.table % tables.length])
      case 'pass time':
        return sleep(400)
      case 'cut stream':
        await this.#source.cutStream()
        return this.#source.wentBack()
      case 'stop':
        return this.#restart(command.signal, new Dice(command.seed))
    }
  }

  async finish(): Promise<RunReport> {
    await this.#endAll()
    for (const table of this.#source.tables) {
      const { rows } = this.#source.latest.tables.get(table.name)!
      if (rows !== null && (await this.#source.read(table)).join() !== rows.join()) throw new Error('the oracle missed a commit')
    }
    await this.#mirror.check(new Dice(1), 'all')
    await this.#mirror.flush()
    await this.#mirror.check(new Dice(2), 'all')
    await this.#mirror.verify()
    const streamed = await this.#source.streamedTransactions()
    const status = await this.#mirror.stop('SIGTERM')
    if (status !== 0) throw new Error(`the backend ended with status ${status}`)
    await this.#rest()
    return {
      commits: this.#source.moments.length,
      reads: this.#mirror.compared,
      refused: this.#mirror.refused,
      snapshots: this.#atRest.compared,
      streamed,
      played: this.#played,
    }
  }

  count(name: string): void {
    this.#played.set(name, (this.#played.get(name) ?? 0) + 1)
  }

  /** Leaves beside the trace what the backend said, and what it and the source are at. */
  async describe(): Promise<void> {
    const { said, status } = await this.#mirror.describe()
    const source = await this.#source.activity().catch(String)
    writeFileSync(join(this.#options.directory, 'backend.log'), said)
    writeFileSync(join(this.#options.directory, 'at-failure.json'), JSON.stringify({ status, source }, null, 2))
  }

  async close(): Promise<void> {
    await this.#mirror.abandon()
    await this.#source.close()
    await this.#atRest.close()
  }

  async #statement(session: Session, table: OracleTable, seed: number): Promise<void> {
    const dice = new Dice(seed)
    const operation = chooseOperation(session.seen(table), dice)
    if (operation === null) return
    const statement = operation.statement(session.seen(table), dice, this.#source.tables)
    if (await this.#source.statement(session, statement)) this.count(operation.name)
  }

  async #alter({ begins, seed, ...command }: Command & { kind: 'alter' }): Promise<void> {
    const { sessions, tables } = this.#source
    const isTold = this.#schemaChanges === 'told'
    const session = sessions[command.session]
    const dice = new Dice(seed)
    // What comes after a moment and a row is not mixed up with what came before.
    if (!isTold && dice.chance(0.7)) await this.#mirror.catchUp()
    if (begins && !session.isOpen) await session.begin()
    const table = session.seen(tables[command.table % tables.length])
    const { name, statement } = chooseChange(table, dice, tables, isTold)
    // Such a table can't be read again, which an aborted part of a transaction may make necessary.
    const mayBeStale = statement.alters!.some(({ isStale, untold }) => (isTold ? isStale : untold.kind !== 'add'))
    if (statement.tables.some(({ identity }) => identity === 'append-only') && (session.isOpen || mayBeStale)) return
    if (await this.#source.statement(session, statement)) this.count(name)
    // Without triggers, what no row follows is not found.
    if (!isTold && dice.chance(0.8)) await this.#statement(session, this.#source.tables[command.table % tables.length], dice.next())
  }

  /** Commits everything, and makes tables again that are not there: nothing keeps one from being read. */
  async #endAll(): Promise<void> {
    const [session] = this.#source.sessions
    for (const open of this.#source.sessions) if (open.isOpen) await this.#control(open, 'commit', new Dice(0))
    while (this.#source.prepared.length > 0) await this.#source.endPrepared(0, 'COMMIT')
    for (const table of this.#source.tables.filter(({ isAbsent }) => isAbsent === true)) {
      await this.#source.statement(session, chooseChange(table, new Dice(1), this.#source.tables, true).statement)
    }
  }

  async #endPrepared(how: 'COMMIT' | 'ROLLBACK', dice: Dice): Promise<void> {
    const { prepared } = this.#source
    if (prepared.length > 0) await this.#source.endPrepared(dice.below(prepared.length), how)
  }

  async #control(session: Session, kind: SessionStep, dice: Dice): Promise<void> {
    if (kind === 'prepare') return this.#source.prepare(session)
    if (kind === 'savepoint') return session.savepoint()
    if (kind === 'back to savepoint') {
      if (session.savepoints > 0) await session.rollbackToSavepoint(dice.between(1, session.savepoints))
      return
    }
    if (kind === 'roll back') return session.end('ROLLBACK')
    await this.#source.commit(session)
  }

  async #burst(dice: Dice): Promise<void> {
    const { sessions, tables } = this.#source
    const idle = sessions.filter((session) => !session.isOpen)
    await this.#source.burst(async () => {
      const committed = await Promise.all(
        idle.map(async (session) => {
          const traces: Traces[] = []
          const own = new Dice(dice.next())
          for (let transaction = 0; transaction < 3; transaction++) {
            await session.begin()
            for (let left = own.between(1, 4); left > 0; left--) {
              const table = own.pick(tables)
              const operation = chooseOperation(table, own)
              if (operation !== null) await session.statement(operation.statement(table, own, tables))
            }
            const how = own.chance(0.8) ? 'COMMIT' : 'ROLLBACK'
            if (how === 'COMMIT') traces.push(session.changes.traces)
            await session.end(how)
          }
          return traces
        }),
      )
      return committed.flat()
    })
  }

  async #restart(signal: 'SIGTERM' | 'SIGKILL', dice: Dice): Promise<void> {
    // A start waits for tables to be read again. Postgres 14 has partitioned ones published anew for a copy, which one that is killed may not have written down.
    const { hasOtherPartitions, major } = this.#source
    if (this.#mirror.isBlocked() || hasOtherPartitions || (signal === 'SIGKILL' && major < 15)) await this.#endAll()
    // A kill may come in the middle of a flush.
    if (signal === 'SIGKILL' && dice.chance(0.5)) {
      this.#mirror.flushBeside()
      await sleep(dice.below(250))
    }
    const status = await this.#mirror.stop(signal)
    if (signal === 'SIGTERM' && status !== 0) throw new Error(`the backend ended with status ${status}`)
    await this.#rest()
    // Rows written while it is down must be there afterwards.
    for (let left = dice.below(4); left > 0; left--)
      await this.#statement(this.#source.sessions[0], dice.pick(this.#source.tables), dice.next())
    await this.#mirror.start()
    this.#source.started()
    await this.#mirror.checkLatest()
  }

  async #rest(): Promise<void> {
    await this.#atRest.check(this.#source)
    await this.#options.onRest?.(this.#source, this.#mirror.warehouse)
  }
}
