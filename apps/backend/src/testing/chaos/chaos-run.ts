import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startPostgres, type RunningPostgres } from '@moonlink/embedded-pg'
import { ddlInstallSql } from '@moonlink/pg-source'
import { Client } from 'pg'
import { RequestError, type BackendProcess } from '../backend-process.ts'
import { ChaosLoad, otherTables } from './chaos-load.ts'
import { ChaosNode } from './chaos-node.ts'
import { pauseMs, type ChaosWarehouse, type Fault } from './chaos-warehouse.ts'
import { TcpProxy } from './tcp-proxy.ts'
import { RecordedHistory } from '../history/recorded-history.ts'
import { mulberry32 } from '../sim/random.ts'
import { verified } from '../verified.ts'

export interface ChaosOptions<W extends ChaosWarehouse> {
  /** For everything that the run makes; emptied by the caller. */
  readonly directory: string
  readonly seconds: number
  /** Of the faults and their times; what the writers do depends on the machine too. */
  readonly seed: number
  /** Backends that take over from one another, with the log in the warehouse's store, rather than one. */
  readonly hasStandby?: boolean
  /** Of lists, beside the three others. */
  readonly listTables: number
  /** `dice`: the run's own numbers in [0, 1). */
  openWarehouse(directory: string, dice: () => number): Promise<W> | W
}

export interface ChaosReport {
  readonly faults: Readonly<Record<string, number>>
  readonly transactions: number
  readonly reads: number
  /** Reads that were not answered, by the code of what was said instead. */
  readonly refused: Readonly<Record<string, number>>
  /** Starts of a backend that something kept from starting: as often as a supervisor had to try again. */
  readonly failedStarts: number
  /** What backends said last that ended by themselves, as one does that was taken over from. */
  readonly endings: readonly string[]
  /** What the check of the history found wrong. */
  readonly wrong: readonly string[]
  /** Output of `moonlink verify`, and its exit status. */
  readonly verified: { readonly status: number | null; readonly stdout: string; readonly stderr: string }
}

const LEAST_LISTS = 6
const LONGEST_FAULT_MS = 1500
/** Where there is a standby, who is killed or frozen is so for longer: sometimes until the other has begun. */
const WITH_STANDBY = 6
const standbyEnvironment = {
  MOONLINK_CHANGE_LOG_KIND: 'store',
  MOONLINK_STANDBY_RENEW_INTERVAL_MS: '200ms',
  MOONLINK_STANDBY_TAKEOVER_MS: '4s',
}

/**
 * A load on a real Postgres and a real backend, with faults at random: either is killed, stopped for a while or cut off, and so is what the warehouse consists of. In
 * the end everything runs again, and the caller compares.
 */
export class ChaosRun<W extends ChaosWarehouse> {
  warehouse!: W
  private readonly options: ChaosOptions<W>
  private readonly dice: () => number
  private postgres!: RunningPostgres
  private proxy!: TcpProxy
  private readonly nodes: ChaosNode[] = []
  private readonly history: RecordedHistory
  private load: ChaosLoad | null = null
  private readonly done: Record<string, number> = {}
  private mirroring: ChaosNode | null = null

  constructor(options: ChaosOptions<W>) {
    this.options = options
    this.dice = mulberry32(options.seed)
    const tables = Array.from({ length: options.listTables }, (_, index) => (index === 0 ? 'lists' : `lists${index + 1}`))
    this.history = new RecordedHistory(tables, Math.ceil(LEAST_LISTS / tables.length))
  }

  /** The source's connection string, without the proxy. */
  get connectionString(): string {
    return this.postgres.connectionString
  }

  /** The backend that mirrors in the end. */
  get running(): BackendProcess {
    return (this.mirroring ?? this.nodes[0]).backend
  }

  async start(): Promise<void> {
    const { directory, openWarehouse } = this.options
    this.postgres = await startPostgres({ dataDir: join(directory, 'postgres'), persistent: true })
    await this.withClient(async (client) => {
      await client.query(`${ddlInstallSql}; ${otherTables}`)
      await this.history.begin(client)
    })
    this.proxy = await TcpProxy.start(this.postgres.port)
    this.warehouse = await openWarehouse(join(directory, 'warehouse'), this.dice)
    const names = this.options.hasStandby === true ? ['first', 'second'] : ['only']
    this.nodes.push(...names.map((name) => this.makeNode(join(directory, `state-${name}`))))
    for (const node of this.nodes) await node.start()
  }

  async run(): Promise<ChaosReport> {
    const over = Date.now() + this.options.seconds * 1000
    // A long run need not be a fast one: the mirror has to follow beside the faults.
    const load = new ChaosLoad(this.connectionString, this.history, this.options.seconds > 60 ? 200 : 5, () => this.anybody())
    this.load = load
    const faults = [...this.faults(), ...this.nodes.flatMap(({ disk }) => disk.faults), ...this.warehouse.faults]
    while (Date.now() < over) {
      await pauseMs(300 + this.dice() * 1200)
      const { inflict, name } = faults[Math.floor(this.dice() * faults.length)]
      this.done[name] = (this.done[name] ?? 0) + 1
      await inflict(this.dice() * LONGEST_FAULT_MS)
    }
    await load.stop()
    await this.settled()
    const wrong = await this.withClient((client) => this.history.check(client))
    return {
      faults: this.done,
      failedStarts: this.nodes.reduce((sum, node) => sum + node.failedStarts, 0),
      endings: this.nodes.flatMap(({ endings }) => endings),
      transactions: load.transactions,
      reads: this.history.reads.length,
      refused: load.refused,
      wrong,
      verified: await verified(this.running.url, this.options.directory),
    }
  }

  /** In order; who mirrors last. Returns what those said last that ended with another status than 0. */
  async stop(): Promise<readonly string[]> {
    const failed: string[] = []
    const inOrder = [...this.nodes].sort((a, b) => Number(a === this.mirroring) - Number(b === this.mirroring))
    for (const node of inOrder) {
      const status = await node.stop('SIGTERM')
      if (status !== 0) failed.push(`status ${status}: ${node.lastLine}`)
    }
    return failed
  }

  /** Files of these tables that no snapshot needs, and that no backend lists to remove them in time. */
  async unlistedFiles(names: readonly string[]): Promise<readonly string[]> {
    const listed = this.nodes.map(({ listedFiles }) => listedFiles).join('\n')
    return (await this.warehouse.unneeded(names)).filter((uri) => !listed.includes(uri))
  }

  /** Ends everything, whatever state it is in, and leaves what the backends said. */
  async close(): Promise<void> {
    const { directory } = this.options
    for (const [index, node] of this.nodes.entries()) await node.close(join(directory, `moonlink-${index}.log`))
    await this.load?.stop()
    for (const [index, { said }] of this.nodes.entries()) writeFileSync(join(directory, `backend-${index}.log`), said)
    await this.proxy?.close()
    await this.postgres?.stop()
    await this.warehouse?.close()
  }

  /** Waits until every table follows again: a change of its shape may take one out of the stream for a while. */
  private async settled(): Promise<void> {
    for (; ; await pauseMs(200)) {
      this.mirroring = await this.whoMirrors()
      if (this.mirroring === null || !(await this.hasCaughtUp())) continue
      const tables = await this.running.tables()
      if (tables.every(({ state }) => state === 'streaming')) return
      const failed = tables.find(({ state }) => state === 'failed')
      if (failed !== undefined) throw new Error(`${failed.name} failed: ${failed.reason}`)
    }
  }

  /** Once one mirrors and each other waits for its turn: one that was deposed ends by itself first, with a status of its own. */
  private async whoMirrors(): Promise<ChaosNode | null> {
    if (this.nodes.length === 1) return this.nodes[0]
    const roles = await Promise.all(this.nodes.map(({ backend }) => backend.role()))
    const mirroring = this.nodes.filter((_, index) => roles[index] === 'mirrors')
    return mirroring.length === 1 && !roles.includes(null) ? mirroring[0] : null
  }

  /** Whom a reader asks that does not know who mirrors: who does not, or not any more, must not answer with what is old. */
  private anybody(): BackendProcess {
    return this.nodes[Math.floor(Math.random() * this.nodes.length)].backend
  }

  private async hasCaughtUp(): Promise<boolean> {
    try {
      await this.running.wait({ iceberg: true })
      return true
    } catch (error) {
      if (error instanceof RequestError && error.code === 'TIMED_OUT') return false
      // Deposed after all.
      if (this.nodes.length > 1 && !(await this.running.isReady())) return false
      throw error
    }
  }

  private faults(): Fault[] {
    const longer = this.options.hasStandby === true ? WITH_STANDBY : 0
    const restart = async (signal: 'SIGKILL' | 'SIGTERM', momentMs: number) => {
      const node = this.someNode()
      await node.stop(signal)
      await pauseMs(momentMs * longer)
      await node.start()
    }
    return [
      { name: 'kill the backend', inflict: (momentMs) => restart('SIGKILL', momentMs) },
      { name: 'stop the backend in order', inflict: (momentMs) => restart('SIGTERM', momentMs) },
      {
        name: 'kill Postgres',
        inflict: async (momentMs) => {
          process.kill(this.postgres.pid, 'SIGKILL')
          await pauseMs(momentMs)
          await this.restartPostgres()
        },
      },
      { name: 'cut connections to Postgres', inflict: async () => this.proxy.cut() },
      {
        name: 'stall connections to Postgres',
        inflict: async (momentMs) => {
          this.proxy.stall()
          await pauseMs(momentMs)
          this.proxy.resume()
        },
      },
      { name: 'freeze the backend', inflict: (momentMs) => this.someNode().freeze(momentMs * Math.max(longer, 1)) },
    ]
  }

  private someNode(): ChaosNode {
    return this.nodes.length === 1 ? this.nodes[0] : this.nodes[Math.floor(this.dice() * this.nodes.length)]
  }

  private async restartPostgres(): Promise<void> {
    const { dataDir, port } = this.postgres
    await this.postgres.stop().catch(() => undefined)
    for (;;) {
      try {
        this.postgres = await startPostgres({ dataDir, port, persistent: true })
        return
      } catch (error) {
        // The killed server's own processes take a moment to notice.
        if (!String(error).includes('pre-existing shared memory block')) throw error
        await pauseMs(200)
      }
    }
  }

  private makeNode(directory: string): ChaosNode {
    const { hasStandby = false } = this.options
    const source = new URL(this.postgres.connectionString)
    source.port = String(this.proxy.port)
    return new ChaosNode({
      directory,
      args: ['--source', source.href, ...this.warehouse.args],
      environment: {
        MOONLINK_FLUSH_INTERVAL_MS: '500',
        MOONLINK_COMPACTION_MIN_FILES: '3',
        MOONLINK_EXPIRY_INTERVAL_MS: '2000',
        MOONLINK_EXPIRY_MAX_AGE_MS: '5000',
        ...this.warehouse.environment,
        ...(hasStandby ? standbyEnvironment : {}),
      },
      isOneOfSeveral: hasStandby,
    })
  }

  private async withClient<T>(use: (client: Client) => Promise<T>): Promise<T> {
    const client = new Client(this.connectionString)
    client.on('error', () => undefined)
    await client.connect()
    try {
      return await use(client)
    } finally {
      await client.end().catch(() => undefined)
    }
  }
}
