import type pg from 'pg'
import { explained } from './connect.ts'
import { unlessSilent } from './unless-silent.ts'

/** A connection and the server process behind it. */
export interface Session {
  readonly client: pg.Client
  readonly pid: number
}

/** One process of a server, which no later one is taken for. */
export interface ServerProcess {
  readonly pid: number
  /** When it began, as the server prints it. */
  readonly since: string
}

/** The server process of a connection, so that it is known again. */
export async function serverProcess(client: pg.Client): Promise<ServerProcess> {
  const sql = 'SELECT pid, backend_start::text AS since FROM pg_stat_activity WHERE pid = pg_backend_pid()'
  return (await client.query<ServerProcess>(sql)).rows[0]
}

/** A connection with its server process. */
export async function sessionOf(client: pg.Client, patienceMs: number): Promise<Session> {
  const ask = () => client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const { rows } = await atOnce(client, patienceMs, 'beginning a session', ask)
  return { client, pid: rows[0].pid }
}

/** Runs what a server answers at once. Throws `retry`/`PG_CONNECTION_LOST` where it is silent for `patienceMs`. */
export function atOnce<T>(client: pg.Client, patienceMs: number, doing: string, run: () => Promise<T>): Promise<T> {
  return explained(
    doing,
    () => unlessSilent(client, patienceMs, run),
    () => null,
  )
}
