import { copyFileSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startPostgres, type RunningPostgres } from '@moonlink/embedded-pg'
import { ddlInstallSql } from '@moonlink/pg-source'
import { Client } from 'pg'
import { BackendProcess, RequestError } from '../backend-process.ts'
import { ChaosLoad, loadTables } from './chaos-load.ts'
import { pauseMs, type ChaosWarehouse, type Fault } from './chaos-warehouse.ts'
import { checkHistory } from './history.ts'
import { SmallDisk } from './small-disk.ts'
import { TcpProxy } from './tcp-proxy.ts'
import { mulberry32 } from '../sim/random.ts'
import { verified } from '../verified.ts'

export interface ChaosOptions<W extends ChaosWarehouse> {
  /** For everything that the run makes; emptied by the caller. */
  readonly directory: string
  readonly seconds: number
  /** Of the faults and their times; what the writers do depends on the machine too. */
  readonly seed: number
  /** `dice`: the run's own numbers in [0, 1). */
  openWarehouse(directory: string, dice: () => number): Promise<W> | W
}

export interface ChaosReport {
  readonly faults: Readonly<Record<string, number>>
  readonly transactions: number
  readonly reads: number
  /** Starts of a backend that something kept from starting: as often as a supervisor had to try again. */
  readonly failedStarts: number
  /** What the check of the history found wrong. */
  readonly wrong: readonly string[]
  /** Output of `moonlink verify`, and its exit status. */
  readonly verified: { readonly status: number | null; readonly stdout: string; readonly stderr: string }
}

const LONGEST_FAULT_MS = 1500
const STATE_DISK_MIB = 512
/** As long as a supervisor tries. */
const START_PATIENCE_MS = 120_000

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
  private state!: SmallDisk
  private backend: BackendProcess | null = null
  private readonly backends: BackendProcess[] = []
  private load: ChaosLoad | null = null
  private readonly done: Record<string, number> = {}
  private failedStarts = 0

  constructor(options: ChaosOptions<W>) {
    this.options = options
    this.dice = mulberry32(options.seed)
  }

  /** The source's connection string, without the proxy. */
  get connectionString(): string {
    return this.postgres.connectionString
  }

  get running(): BackendProcess {
    return this.backend!
  }

  async start(): Promise<void> {
    const { directory, openWarehouse } = this.options
    this.postgres = await startPostgres({ dataDir: join(directory, 'postgres'), persistent: true })
    this.state = SmallDisk.mount('state', join(directory, 'state'), STATE_DISK_MIB)
    await this.withClient((client) => client.query(`${ddlInstallSql}; ${loadTables}`))
    this.proxy = await TcpProxy.start(this.postgres.port)
    this.warehouse = await openWarehouse(join(directory, 'warehouse'), this.dice)
    await this.startBackend()
  }

  async run(): Promise<ChaosReport> {
    const over = Date.now() + this.options.seconds * 1000
    // A long run need not be a fast one: the mirror has to follow beside the faults.
    const load = new ChaosLoad(this.connectionString, this.options.seconds > 60 ? 200 : 5, () => this.running)
    this.load = load
    const faults = [...this.faults(), ...this.state.faults, ...this.warehouse.faults]
    while (Date.now() < over) {
      await pauseMs(300 + this.dice() * 1200)
      const { inflict, name } = faults[Math.floor(this.dice() * faults.length)]
      this.done[name] = (this.done[name] ?? 0) + 1
      await inflict(this.dice() * LONGEST_FAULT_MS)
    }
    await load.stop()
    await this.settled()
    const final = await this.withClient((client) => client.query<{ k: number; v: number[] }>('SELECT k, v FROM lists'))
    const wrong = checkHistory(load.appends, load.reads, new Map(final.rows.map(({ k, v }) => [k, v])))
    return {
      faults: this.done,
      failedStarts: this.failedStarts,
      transactions: load.transactions,
      reads: load.reads.length,
      wrong,
      verified: await verified(this.running.url, this.options.directory),
    }
  }

  /** Ends everything, whatever state it is in, and leaves what the backends said in `backend.log`. */
  async close(): Promise<void> {
    this.backend?.child.kill('SIGCONT')
    await this.backend?.stop('SIGKILL')
    await this.load?.stop()
    writeFileSync(join(this.options.directory, 'backend.log'), this.backends.map(({ said }) => said).join('---\n'))
    await this.proxy?.close()
    await this.postgres?.stop()
    await this.warehouse?.close()
    this.keepLog()
    this.state?.unmount()
  }

  /** Waits until every table follows again: a change of its shape may take one out of the stream for a while. */
  private async settled(): Promise<void> {
    for (;;) {
      if (!(await this.hasCaughtUp())) continue
      const tables = await this.running.tables()
      if (tables.every(({ state }) => state === 'streaming')) return
      const failed = tables.find(({ state }) => state === 'failed')
      if (failed !== undefined) throw new Error(`${failed.name} failed: ${failed.reason}`)
      await pauseMs(200)
    }
  }

  private async hasCaughtUp(): Promise<boolean> {
    try {
      await this.running.wait({ iceberg: true })
      return true
    } catch (error) {
      if (error instanceof RequestError && error.code === 'TIMED_OUT') return false
      throw error
    }
  }

  private faults(): Fault[] {
    const restartBackend = async (signal: 'SIGKILL' | 'SIGTERM') => {
      await this.running.stop(signal)
      await this.startBackend()
    }
    return [
      { name: 'kill the backend', inflict: () => restartBackend('SIGKILL') },
      { name: 'stop the backend in order', inflict: () => restartBackend('SIGTERM') },
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
      {
        name: 'freeze the backend',
        inflict: async (momentMs) => {
          this.running.child.kill('SIGSTOP')
          await pauseMs(momentMs)
          this.running.child.kill('SIGCONT')
        },
      },
    ]
  }

  private keepLog(): void {
    const log = join(this.options.directory, 'state', 'moonlink.log')
    if (existsSync(log)) copyFileSync(log, join(this.options.directory, 'moonlink.log'))
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

  /** As a supervisor does: again, where what the backend needs is not there at the moment. */
  private async startBackend(): Promise<void> {
    const givesUpAtMs = Date.now() + START_PATIENCE_MS
    for (;;) {
      try {
        return await this.tryStart()
      } catch (error) {
        if (this.running.child.exitCode !== 1 || Date.now() > givesUpAtMs) throw error
        this.failedStarts++
        await pauseMs(500)
      }
    }
  }

  private async tryStart(): Promise<void> {
    const url = new URL(this.postgres.connectionString)
    url.port = String(this.proxy.port)
    this.backend = BackendProcess.launch(['--source', url.href, '--state-dir', this.state.directory, ...this.warehouse.args], {
      MOONLINK_FLUSH_INTERVAL_MS: '500',
      MOONLINK_COMPACTION_MIN_FILES: '3',
      MOONLINK_EXPIRY_INTERVAL_MS: '2000',
      MOONLINK_EXPIRY_MAX_AGE_MS: '5000',
      ...this.warehouse.environment,
    })
    this.backends.push(this.backend)
    await this.backend.ready()
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
