import type { RunningPostgres } from '@moonlink/embedded-pg'
import pg from 'pg'

export interface BenchContext {
  readonly postgres: RunningPostgres
  readonly directory: string
  /** Multiplies every row count. */
  readonly scale: number
  readonly log: (line: string) => void
  readonly connection: 'socket' | 'tcp'
  /** Where the backend's CPU profiles go; null where none are wanted. */
  readonly profileDir: string | null
}

/** A database of its own for each scenario, so that slots and publications do not meet. */
export async function freshDatabase(context: BenchContext, name: string): Promise<{ url: string; client: pg.Client }> {
  const admin = new pg.Client({ connectionString: context.postgres.connectionString })
  await admin.connect()
  await admin.query(`CREATE DATABASE ${name}`)
  await admin.end()
  const url = new URL(context.postgres.connectionString)
  url.pathname = `/${name}`
  if (context.connection === 'socket' && context.postgres.socketDir) url.searchParams.set('host', context.postgres.socketDir)
  const client = new pg.Client({ connectionString: url.href })
  await client.connect()
  return { url: url.href, client }
}
