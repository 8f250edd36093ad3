import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startPostgres, type RunningPostgres } from '@moonlink/embedded-pg'
import { ddlInstallSql } from '@moonlink/pg-source'
import { Client } from 'pg'
import { BackendProcess } from '../backend-process.ts'
import { moonlink } from '../command-line.ts'
import { checkHistory, type AppendEvent, type ReadEvent } from './history.ts'
import { shapesTable, writeShapes } from './shape-load.ts'
import { TcpProxy } from './tcp-proxy.ts'

export interface ChaosOptions {
  /** For everything that the run makes; emptied by the caller. */
  readonly directory: string
  readonly seconds: number
  /** Of the faults and their times; what the writers do depends on the machine too. */
  readonly seed: number
}

export interface ChaosReport {
  readonly faults: Readonly<Record<string, number>>
  readonly transactions: number
  readonly reads: number
  /** What the check of the history found wrong. */
  readonly wrong: readonly string[]
  /** Output of `moonlink verify`, and its exit status. */
  readonly verified: { readonly status: number | null; readonly stdout: string; readonly stderr: string }
}

const LISTS = 6
const tables = `
  CREATE TABLE lists (k int PRIMARY KEY, v int[] NOT NULL DEFAULT '{}');
  INSERT INTO lists SELECT k FROM generate_series(1, ${LISTS}) k;
  CREATE TABLE items (id bigserial PRIMARY KEY, name text NOT NULL, big text, amount numeric(12, 2));
  CREATE TABLE bag (n int, t text);
  ALTER TABLE bag REPLICA IDENTITY FULL;
  ${shapesTable};`
const pauseMs = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/**
 * A load on a real Postgres and a real backend, with faults at random: either is killed, stopped for a while or cut off, the warehouse's disk is full. In the
 * end everything runs again, and the caller compares.
 */
export class ChaosRun {
  private readonly options: ChaosOptions
  private readonly random: () => number
  private postgres!: RunningPostgres
  private proxy!: TcpProxy
  private backend: BackendProcess | null = null
  private readonly backends: BackendProcess[] = []
  private isOver = false
  private transactions = 0
  private readonly faults: Record<string, number> = {}
  private readonly appends: AppendEvent[] = []
  private readonly reads: ReadEvent[] = []
  private readonly warehouse: string
  private hasOwnDisk = false

  constructor(options: ChaosOptions) {
    this.options = options
    this.random = mulberry32(options.seed)
    this.warehouse = join(options.directory, 'warehouse')
  }

  /** The source's connection string, without the proxy. */
  get connectionString(): string {
    return this.postgres.connectionString
  }

  get running(): BackendProcess {
    return this.backend!
  }

  async start(): Promise<void> {
    this.postgres = await startPostgres({ dataDir: join(this.options.directory, 'postgres'), persistent: true })
    await this.withClient((client) => client.query(`${ddlInstallSql}; ${tables}`))
    this.proxy = await TcpProxy.start(this.postgres.port)
    mkdirSync(this.warehouse, { recursive: true })
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=192m', 'none', this.warehouse], { stdio: 'ignore' })
      this.hasOwnDisk = true
    } catch {
      // Mounting is not allowed here: the other faults do.
    }
    await this.startBackend()
  }

  async run(): Promise<ChaosReport> {
    const over = Date.now() + this.options.seconds * 1000
    const clients = [this.append(0), this.append(1), this.write(), this.write(), this.untilOver(writeShapes), this.read()]
    while (Date.now() < over) {
      await pauseMs(300 + this.random() * 1200)
      await this.fault()
    }
    this.isOver = true
    await Promise.all(clients)
    await this.settled()
    const final = await this.withClient((client) => client.query<{ k: number; v: number[] }>('SELECT k, v FROM lists'))
    const wrong = checkHistory(this.appends, this.reads, new Map(final.rows.map(({ k, v }) => [k, v])))
    const verified = await moonlink(['verify'], { MOONLINK_URL: this.backend!.url }, this.options.directory)
    return { faults: this.faults, transactions: this.transactions, reads: this.reads.length, wrong, verified }
  }

  /** Waits until every table follows again: a change of shape is met with the next row, and may take the table out of the stream for a while. */
  private async settled(): Promise<void> {
    await this.withClient((client) => client.query('UPDATE shapes SET n = n + 1'))
    for (;;) {
      await this.backend!.wait({ iceberg: true })
      const { tables } = await this.backend!.status()
      if (tables.every(({ state }) => state === 'streaming')) return
      const failed = tables.find(({ state }) => state === 'failed')
      if (failed !== undefined) throw new Error(`${failed.name} failed: ${failed.reason}`)
      await pauseMs(200)
    }
  }

  /** Ends everything, whatever state it is in. */
  async close(): Promise<void> {
    this.isOver = true
    this.backend?.child.kill('SIGCONT')
    await this.backend?.stop('SIGKILL')
    writeFileSync(join(this.options.directory, 'backend.log'), this.backends.map(({ said }) => said).join('---\n'))
    await this.proxy?.close()
    await this.postgres?.stop()
    if (this.hasOwnDisk) execFileSync('umount', ['-l', this.warehouse])
  }

  private async fault(): Promise<void> {
    const kinds = [
      'kill the backend',
      'stop the backend in order',
      'kill Postgres',
      'cut connections',
      'stall connections',
      'freeze the backend',
      'fill the disk',
    ]
    const kind = kinds[Math.floor(this.random() * kinds.length)]
    if (kind === 'fill the disk' && !this.hasOwnDisk) return
    this.faults[kind] = (this.faults[kind] ?? 0) + 1
    const moment = this.random() * 1500
    switch (kind) {
      case 'kill the backend':
        await this.backend!.stop('SIGKILL')
        return this.startBackend()
      case 'stop the backend in order':
        await this.backend!.stop('SIGTERM')
        return this.startBackend()
      case 'kill Postgres':
        process.kill(this.postgres.pid, 'SIGKILL')
        await pauseMs(moment)
        return this.restartPostgres()
      case 'cut connections':
        return this.proxy.cut()
      case 'stall connections':
        this.proxy.stall()
        await pauseMs(moment)
        return this.proxy.resume()
      case 'freeze the backend':
        this.backend!.child.kill('SIGSTOP')
        await pauseMs(moment)
        this.backend!.child.kill('SIGCONT')
        return
      default:
        return this.fillDisk(moment)
    }
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

  private async fillDisk(ms: number): Promise<void> {
    const filler = join(this.warehouse, 'filler')
    try {
      writeFileSync(filler, Buffer.alloc(192 * 2 ** 20))
    } catch {
      // Full is what it shall be.
    }
    await pauseMs(ms)
    rmSync(filler, { force: true })
  }

  private async startBackend(): Promise<void> {
    const url = new URL(this.postgres.connectionString)
    url.port = String(this.proxy.port)
    this.backend = await BackendProcess.launch(
      ['--source', url.href, '--state-dir', join(this.options.directory, 'state'), '--warehouse', join(this.warehouse, 'tables')],
      {
        MOONLINK_FLUSH_INTERVAL_MS: '500',
        MOONLINK_COMPACTION_MIN_FILES: '3',
        MOONLINK_EXPIRY_INTERVAL_MS: '2000',
        MOONLINK_EXPIRY_MAX_AGE_MS: '5000',
      },
    )
    this.backends.push(this.backend)
    await this.backend.ready()
  }

  private async withClient<T>(use: (client: Client) => Promise<T>): Promise<T> {
    const client = new Client(this.postgres.connectionString)
    client.on('error', () => undefined)
    await client.connect()
    try {
      return await use(client)
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  /** Transactions until the run is over; one that fails is given up, with its connection. */
  private async untilOver(transact: (client: Client, round: number) => Promise<void>): Promise<void> {
    for (let round = 0; !this.isOver;) {
      try {
        await this.withClient(async (client) => {
          for (; !this.isOver; round++) {
            await transact(client, round)
            this.transactions++
            await pauseMs(5)
          }
        })
      } catch {
        round++
        await pauseMs(100)
      }
    }
  }

  /** Each transaction appends its number to some lists. */
  private append(writer: number): Promise<void> {
    return this.untilOver(async (client, round) => {
      const transaction = round * 2 + writer
      const lists = [1 + (round % LISTS), 1 + ((round * 5 + writer + 1) % LISTS)]
        .filter((list, at, all) => all.indexOf(list) === at)
        .sort((a, b) => a - b)
      const event = { transaction, lists, committedAtMs: null as number | null }
      this.appends.push(event)
      await client.query('BEGIN')
      for (const list of lists) await client.query('UPDATE lists SET v = v || $1::int WHERE k = $2', [transaction, list])
      await client.query('COMMIT')
      event.committedAtMs = Date.now()
    })
  }

  private write(): Promise<void> {
    const big = `(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 100))`
    return this.untilOver(async (client, round) => {
      await client.query('BEGIN')
      await client.query(
        `INSERT INTO items (name, big, amount) SELECT 'n' || g, CASE WHEN g % 3 = 0 THEN ${big} END, g / 3.0 FROM generate_series(1, 20) g`,
      )
      await client.query(`UPDATE items SET amount = amount + 1 WHERE id % 37 = ${round % 37}`)
      await client.query(
        `UPDATE items SET id = id + 1000000000 WHERE id IN (SELECT id FROM items WHERE id < 1000000000 ORDER BY id DESC LIMIT 1)`,
      )
      await client.query(`DELETE FROM items WHERE id IN (SELECT id FROM items ORDER BY id LIMIT ${round % 17})`)
      await client.query(`INSERT INTO bag SELECT g % 5, 'b' FROM generate_series(1, 10) g`)
      await client.query(`DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE n = ${round % 5} LIMIT 8)`)
      if (round % 200 === 199) await client.query('TRUNCATE bag')
      await client.query(round % 10 === 9 ? 'ROLLBACK' : 'COMMIT')
    })
  }

  private async read(): Promise<void> {
    while (!this.isOver) {
      const startedAtMs = Date.now()
      try {
        const rows = await this.backend!.query('SELECT k, v FROM public.lists')
        this.reads.push({
          startedAtMs,
          endedAtMs: Date.now(),
          lists: new Map(rows.map(([k, v]) => [Number(k), (v as number[]).map(Number)])),
        })
      } catch {
        // Down, or not caught up yet.
      }
      await pauseMs(20)
    }
  }
}

/** A small generator of numbers in [0, 1) from a seed. */
function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
