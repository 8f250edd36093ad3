import { Client } from 'pg'
import { RequestError, type BackendProcess } from '../backend-process.ts'
import { readings, type RecordedHistory } from '../history/recorded-history.ts'
import { pauseMs } from './chaos-warehouse.ts'
import { shapesTable, writeShapes } from './shape-load.ts'

/** The lists grow with each append, and so does what the next one writes, and each read. */
const APPEND_PAUSES = 4

export const otherTables = `
  CREATE TABLE items (id bigserial PRIMARY KEY, name text NOT NULL, big text, amount numeric(12, 2));
  CREATE TABLE bag (n int, t text);
  ALTER TABLE bag REPLICA IDENTITY FULL;
  ${shapesTable};`

/** Writers on the source and a reader of the mirror, whatever befalls either; and what they saw. */
export class ChaosLoad {
  readonly history: RecordedHistory
  /** Reads that were not answered, by the code of what was said instead. */
  readonly refused: Record<string, number> = {}
  transactions = 0
  private readonly connectionString: string
  private readonly pauseMs: number
  private readonly backend: () => BackendProcess
  private readonly clients: Promise<unknown>
  private isOver = false

  /** `pauseMs`: of each writer, between two transactions. */
  constructor(connectionString: string, history: RecordedHistory, pauseMs: number, backend: () => BackendProcess) {
    this.history = history
    this.connectionString = connectionString
    this.pauseMs = pauseMs
    this.backend = backend
    const append = () => this.untilOver((client) => history.append(client), this.pauseMs * APPEND_PAUSES)
    this.clients = Promise.all([append(), append(), this.write(), this.write(), this.untilOver(writeShapes), this.read(), this.read()])
  }

  async stop(): Promise<void> {
    this.isOver = true
    await this.clients
  }

  /** Transactions until the run is over; one that fails is given up, with its connection. */
  private async untilOver(transact: (client: Client, round: number) => Promise<void>, betweenMs = this.pauseMs): Promise<void> {
    for (let round = 0; !this.isOver;) {
      const client = new Client(this.connectionString)
      client.on('error', () => undefined)
      try {
        await client.connect()
        for (; !this.isOver; round++) {
          await transact(client, round)
          this.transactions++
          await pauseMs(betweenMs)
        }
      } catch {
        round++
        await pauseMs(100)
      } finally {
        await client.end().catch(() => undefined)
      }
    }
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
      await client.query(`DELETE FROM items WHERE id IN (SELECT id FROM items ORDER BY id LIMIT ${10 + (round % 21)})`)
      await client.query(`INSERT INTO bag SELECT g % 5, 'b' FROM generate_series(1, 10) g`)
      await client.query(`DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE n = ${round % 5} LIMIT 8)`)
      if (round % 200 === 199) await client.query('TRUNCATE bag')
      await client.query(round % 10 === 9 ? 'ROLLBACK' : 'COMMIT')
    })
  }

  /** Each third read waits first for what is committed by then, and another goes back. */
  private async read(): Promise<void> {
    for (let round = 0; !this.isOver; round++) {
      try {
        await this.history.read(this.backend(), readings[round % readings.length])
      } catch (error) {
        // Down, or not caught up yet.
        const code = error instanceof RequestError ? error.code : 'no answer'
        this.refused[code] = (this.refused[code] ?? 0) + 1
      }
      await pauseMs(this.pauseMs * APPEND_PAUSES)
    }
  }
}
