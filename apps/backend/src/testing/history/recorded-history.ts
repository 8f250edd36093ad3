import { formatLsn, parseLsn } from '@moonlink/core'
import type { Client } from 'pg'
import type { BackendProcess } from '../backend-process.ts'
import { beginCommitOrder, commitOrder } from './commit-order.ts'
import { checkHistory, type AppendEvent, type ReadEvent } from './history.ts'

export const isolationLevels = ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'] as const
/** `waited`: for what is committed by then; `past`: at an LSN that was read before. */
export const readings = ['latest', 'waited', 'past'] as const
export type Reading = (typeof readings)[number]

const MOST_LISTS = 4
const MOST_TABLES = 6
const WAIT_PATIENCE_MS = 5000
/** LSNs of so many reads are asked for again. */
const RECENT_READS = 5

/** Lists in tables of the source, what clients append to them, and what they read of them in the mirror. */
export class RecordedHistory {
  readonly reads: ReadEvent[] = []
  private readonly appends: (AppendEvent & { committedAtMs: number | null })[] = []
  private readonly tables: readonly string[]
  private readonly lists: readonly string[]

  /** `count`: lists in each table. */
  constructor(tables: readonly string[], count: number) {
    this.tables = tables
    this.lists = tables.flatMap((table) => Array.from({ length: count }, (_, key) => `${table}.${key + 1}`))
  }

  /** Makes the tables; nothing may have been written to them when it begins. */
  async begin(client: Client): Promise<void> {
    for (const table of this.tables) await client.query(`CREATE TABLE ${table} (k int PRIMARY KEY, v int[] NOT NULL DEFAULT '{}')`)
    for (const list of this.lists) await client.query(`INSERT INTO ${tableOf(list)} (k) VALUES (${keyOf(list)})`)
    await beginCommitOrder(client, this.tables)
  }

  get committed(): number {
    return this.appends.filter(({ committedAtMs }) => committedAtMs !== null).length
  }

  /** Reads of that kind. */
  count(how: Reading): number {
    return this.reads.filter(({ askedLsn, hasAllOfMs }) => how === (askedLsn !== null ? 'past' : hasAllOfMs !== null ? 'waited' : 'latest'))
      .length
  }

  /** A transaction that appends its id to some lists of any tables; it may fail as one does beside others. */
  async append(client: Client, isolation: (typeof isolationLevels)[number] = 'READ COMMITTED'): Promise<void> {
    const lists = some(this.lists, 1 + below(MOST_LISTS)).sort()
    await client.query(`BEGIN ISOLATION LEVEL ${isolation}`)
    const { rows } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid')
    const event = { transaction: Number(rows[0].xid), lists, committedAtMs: null as number | null }
    this.appends.push(event)
    for (const list of lists) {
      if (await this.appendTo(client, list, event.transaction)) continue
      await client.query('ROLLBACK')
      return
    }
    const isGivenUp = below(10) === 0
    await client.query(isGivenUp ? 'ROLLBACK' : 'COMMIT')
    if (!isGivenUp) event.committedAtMs = performance.now()
  }

  async read(backend: BackendProcess, how: Reading): Promise<void> {
    const tables = some(this.tables, 1 + below(MOST_TABLES))
    const sql = tables.map((table) => `SELECT '${table}.' || k, v FROM public.${table}`).join(' UNION ALL ')
    const hasAllOfMs = how === 'waited' ? performance.now() : null
    if (how === 'waited') await backend.wait({ timeoutMs: WAIT_PATIENCE_MS })
    const recent = this.reads.slice(-RECENT_READS)
    const askedLsn = how === 'past' && recent.length > 0 ? recent[below(recent.length)].lsn : null
    const startedAtMs = performance.now()
    const { lsn, rows } = await backend.read(sql, askedLsn === null ? null : formatLsn(askedLsn))
    const lists = rows.map(([list, values]) => [list as string, (values as (number | bigint)[]).map(Number)] as const)
    this.reads.push({ startedAtMs, endedAtMs: performance.now(), tables, hasAllOfMs, askedLsn, lsn: parseLsn(lsn!), rows: lists })
  }

  /** What is wrong with it, once all of it is over. May be asked once. */
  async check(client: Client): Promise<readonly string[]> {
    const final = new Map<string, readonly number[]>()
    for (const table of this.tables) {
      const { rows } = await client.query<{ k: number; v: number[] }>(`SELECT k, v FROM ${table}`)
      for (const { k, v } of rows) final.set(`${table}.${k}`, v)
    }
    return checkHistory({ appends: this.appends, reads: this.reads, commits: await commitOrder(client), final })
  }

  /** By an update, one of them taken back before, or by a row in place of the old one. False: it is not there to a transaction that began when it was being replaced. */
  private async appendTo(client: Client, list: string, transaction: number): Promise<boolean> {
    const table = tableOf(list)
    const update = (value: number) => client.query(`UPDATE ${table} SET v = v || ${value} WHERE k = ${keyOf(list)}`)
    const way = below(8)
    if (way === 0) {
      await client.query('SAVEPOINT before')
      await update(-transaction)
      await client.query('ROLLBACK TO before')
    }
    if (way > 1) return (await update(transaction)).rowCount === 1
    const replaced = await client.query(
      `WITH old AS (DELETE FROM ${table} WHERE k = ${keyOf(list)} RETURNING k, v) INSERT INTO ${table} SELECT k, v || ${transaction} FROM old`,
    )
    return replaced.rowCount === 1
  }
}

const tableOf = (list: string) => list.slice(0, list.indexOf('.'))
const keyOf = (list: string) => list.slice(list.indexOf('.') + 1)
const below = (bound: number) => Math.floor(Math.random() * bound)

function some<T>(all: readonly T[], count: number): T[] {
  const left = [...all]
  return Array.from({ length: Math.min(count, all.length) }, () => left.splice(below(left.length), 1)[0])
}
