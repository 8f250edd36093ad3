import { formatTableName, isMoonlinkError, MoonlinkError, systemClock, type TableName } from '@moonlink/core'
import type pg from 'pg'
import type { DescribedTable } from './catalog.ts'
import { explained, type CatalogConnection } from './connect.ts'
import { quoted } from './describe-shape.ts'
import { isLockTimeout, messageOf, sqlState } from './errors.ts'

/**
 * Locks tables for a transaction's reading, with or without their partitions. Throws, naming the table where it is one of them: `retry`/`PG_LOCK_TIMEOUT` where another session keeps one for
 * `timeoutMs`, `invalid`/`PG_SELECT_PRIVILEGE`, or `invalid`/`TABLE_UNKNOWN`. The transaction is of no use then.
 */
export async function lockTables(
  guard: pg.Client,
  tables: readonly TableName[],
  timeoutMs: number,
  withPartitions: boolean,
): Promise<void> {
  if (tables.length === 0) return
  await guard.query(`SET LOCAL lock_timeout = ${timeoutMs}`)
  try {
    await takeLocks(guard, tables, withPartitions, false)
  } catch (error) {
    if (tables.length > 1 && isMoonlinkError(error) && error.code !== 'PG_CONNECTION_LOST') await findLacking(guard, tables, withPartitions)
    throw error
  }
}

/** Throws of the first table that can't be locked now. */
async function findLacking(guard: pg.Client, tables: readonly TableName[], withPartitions: boolean): Promise<void> {
  for (const table of tables) {
    await guard.query('ROLLBACK; BEGIN')
    await takeLocks(guard, [table], withPartitions, true)
  }
}

/** The guard's locks, for a connection that reads beside it: at once or not at all (see `SnapshotCopy`). */
export async function lockAlike(client: pg.Client, described: readonly DescribedTable[]): Promise<void> {
  for (const withPartitions of [false, true]) {
    const tables = described.filter(({ partitions }) => (partitions !== null) === withPartitions).map(({ table }) => table)
    if (tables.length > 0) await takeLocks(client, tables, withPartitions, true)
  }
}

async function takeLocks(client: pg.Client, tables: readonly TableName[], withPartitions: boolean, atOnce: boolean): Promise<void> {
  const context = tables.length === 1 ? { table: formatTableName(tables[0]) } : {}
  const list = tables.map((table) => `${withPartitions ? '' : 'ONLY '}${quoted(table)}`).join(', ')
  await explained(
    'locking the tables to copy',
    () => client.query(`LOCK TABLE ${list} IN ACCESS SHARE MODE${atOnce ? ' NOWAIT' : ''}`),
    (error) => {
      if (sqlState(error) === '42501')
        return new MoonlinkError('invalid', 'PG_SELECT_PRIVILEGE', `${messageOf(error)}. GRANT SELECT on it to the user.`, {
          context,
          cause: error,
        })
      if (isLockTimeout(error)) return locked(tables, error)
      if (sqlState(error) === '42P01')
        return new MoonlinkError('invalid', 'TABLE_UNKNOWN', `${messageOf(error)}: it was dropped or renamed meanwhile.`, {
          context,
          cause: error,
        })
      return null
    },
  )
}

function locked(tables: readonly TableName[], cause: unknown): MoonlinkError {
  const names = tables.map(formatTableName).join(', ')
  const message = `${names}: another session holds an ACCESS EXCLUSIVE lock, or waits for one (ALTER TABLE, VACUUM FULL?). The copy begins once that has ended.`
  return new MoonlinkError('retry', 'PG_LOCK_TIMEOUT', message, { cause })
}

/** Whether the exporter waits, by way of others, for somebody who waits for the guard: Postgres can't see that the circle closes here. */
const circleSql = `WITH RECURSIVE awaited (pid) AS (
    SELECT unnest(pg_blocking_pids($1)) UNION SELECT blocking FROM awaited, unnest(pg_blocking_pids(awaited.pid)) blocking)
  SELECT EXISTS (SELECT FROM awaited WHERE pid = $2) AS closed`
const CIRCLE_LOOK_MS = 500

/**
 * A new slot waits for the end of every transaction that is writing. One of those may want a lock that the guard keeps from it: then the snapshot is given up,
 * and the guard's locks with it. Throws `retry`/`PG_LOCK_TIMEOUT`.
 */
export async function givingWay<T>(
  connection: CatalogConnection,
  guard: number,
  exporter: number,
  tables: readonly TableName[],
  work: () => Promise<T>,
): Promise<T> {
  const done = new AbortController()
  let isCircle = false
  const watch = async () => {
    while (!isCircle) {
      await systemClock.sleep(CIRCLE_LOOK_MS, done.signal)
      isCircle = (await connection.rows<{ closed: boolean }>(circleSql, [exporter, guard]))[0].closed
    }
    await connection.rows('SELECT pg_cancel_backend($1)', [exporter])
  }
  const watching = watch().catch(() => undefined)
  try {
    return await work()
  } catch (error) {
    throw isCircle ? locked(tables, error) : error
  } finally {
    done.abort(new Error('done'))
    await watching
  }
}
