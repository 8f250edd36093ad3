import { Client } from 'pg'

/** Transactions on a source, one after another, until stopped. */
export class Load {
  private readonly connectionString: string
  private readonly running: Promise<void>
  private isOver = false
  private transactions = 0
  private waiters: { readonly from: number; wake(): void }[] = []

  constructor(connectionString: string) {
    this.connectionString = connectionString
    this.running = this.run()
  }

  static async createTables(client: Client): Promise<void> {
    await client.query(`
      CREATE TABLE items (id bigserial PRIMARY KEY, name text NOT NULL, amount numeric(12, 2));
      CREATE TABLE bag (n int, t text);
      ALTER TABLE bag REPLICA IDENTITY FULL;
      CREATE TABLE still (id int PRIMARY KEY, note text);
      INSERT INTO items (name, amount) SELECT 'n' || g, g FROM generate_series(1, 200) g;
      INSERT INTO still VALUES (1, 'a')`)
  }

  /** Resolves when so many more transactions have committed. */
  async until(more: number): Promise<void> {
    const from = this.transactions + more
    await Promise.race([this.running, new Promise<void>((wake) => this.waiters.push({ from, wake }))])
  }

  /** Throws what a transaction threw. */
  async stop(): Promise<void> {
    this.isOver = true
    await this.running
  }

  private async run(): Promise<void> {
    const client = new Client(this.connectionString)
    // The statement under way throws it.
    client.on('error', () => undefined)
    await client.connect()
    try {
      for (let round = 0; !this.isOver; round++) {
        await client.query('BEGIN')
        await client.query(`INSERT INTO items (name, amount) SELECT 'n' || g, g / 3.0 FROM generate_series(1, 10) g`)
        await client.query(`UPDATE items SET amount = amount + 1 WHERE id % 37 = $1`, [round % 37])
        await client.query(`DELETE FROM items WHERE id IN (SELECT id FROM items ORDER BY id LIMIT $1)`, [round % 9])
        await client.query(`INSERT INTO bag SELECT g % 5, 'b' FROM generate_series(1, 5) g`)
        await client.query(`DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE n = $1 LIMIT 4)`, [round % 5])
        await client.query(round % 10 === 9 ? 'ROLLBACK' : 'COMMIT')
        this.transactions++
        const due = this.waiters.filter(({ from }) => from <= this.transactions)
        this.waiters = this.waiters.filter(({ from }) => from > this.transactions)
        for (const { wake } of due) wake()
      }
    } finally {
      await client.end()
    }
  }
}
