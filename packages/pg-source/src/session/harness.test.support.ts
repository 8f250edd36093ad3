import {
  formatTableName,
  type ChangeLog,
  type ChangeStream,
  type Lsn,
  type ResumePoint,
  type TableName,
  type TableSchema,
} from '@moonlink/core'
import type pg from 'pg'
import type { PgSourceConfig } from './config.ts'
import { openPgSource, type PgSource } from './source.ts'
import { Replica, sorted, type TextRow } from './replica.test.support.ts'

/** A source with its open stream and a replica fed from it. */
export interface Following {
  readonly source: PgSource
  readonly stream: ChangeStream
  readonly replica: Replica
  /** Applies events until everything committed in the source by now is in the replica. */
  catchUp(): Promise<Lsn>
  close(): Promise<void>
}

export function tableOf(name: string): TableName {
  const [schema, table] = name.split('.') as [string, string]
  return { schema, name: table }
}

/** Prepares `tables`, opens the stream after `after` (default: the slot's start), and follows it. */
export async function follow(
  config: PgSourceConfig,
  tables: readonly string[],
  after?: Lsn,
  replica = new Replica(),
  log?: ChangeLog,
  resume: readonly ResumePoint[] = [],
): Promise<Following> {
  const source = await openPgSource({ statusIntervalMs: 50, ...config })
  const prepared = await source.prepare(tables.map(tableOf))
  for (const name of tables) if (!replica.schemas.has(name)) replica.schemas.set(name, await schemaOf(source, name))
  const stream = await source.open(after ?? prepared.slotLsn, new AbortController().signal, log, resume)
  const events = stream[Symbol.asyncIterator]()
  return {
    source,
    stream,
    replica,
    catchUp: async () => {
      const lsn = await source.currentLsn()
      while (replica.watermarkLsn < lsn) {
        const next = await events.next()
        if (next.done) throw new Error('the stream ended')
        replica.apply(next.value)
      }
      return lsn
    },
    close: () => source.close(),
  }
}

/** What the source itself says is in the table. */
export async function selectRows(client: pg.Client, name: string): Promise<TextRow[]> {
  const { rows } = await client.query<{ row: TextRow }>(
    `SELECT (SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(to_jsonb(t))) AS row FROM ${name} t`,
  )
  return rows.map(({ row }) => row)
}

export async function sourceState(client: pg.Client, name: string): Promise<string[]> {
  return sorted(await selectRows(client, name))
}

export async function schemaOf(source: PgSource, name: string): Promise<TableSchema> {
  const [listing] = await source.listTables([tableOf(name)])
  if (!listing?.mirrorable) throw new Error(`${formatTableName(tableOf(name))} can't be mirrored: ${listing?.reason}`)
  return listing.schema
}
