import { MoonlinkError } from '@moonlink/core'
import type pg from 'pg'
import { parseConfig } from './config.ts'
import { Connector, disconnect } from './connect.ts'
import { ddlPartitionsSql, unwatchPartitionsSql, watchPartitionsSql } from './ddl-partitions-sql.ts'
import { ddlInstallSql, ddlTriggersSql, ddlUninstallSql } from './ddl-sql.ts'
import { messageOf, sqlState } from './errors.ts'
import { ON_TRUNCATE_OID } from './told-since.ts'

export interface DdlTriggerOptions {
  /** Also a trigger on each partition, which tells where that is truncated by itself. Default: where there are such triggers. */
  readonly partitions?: boolean
}

/**
 * Installs or removes the event triggers that write changes of tables into the stream, in one transaction; triggers of partitions one by one, before that or after.
 * Returns whether there were event triggers before. Throws `invalid`/`PG_DDL_PRIVILEGE` where the user may not, `retry`/`PG_LOCK_TIMEOUT` where partitions were locked by others
 * for too long, and what connecting throws.
 */
export async function changeDdlTriggers(
  connection: string,
  change: 'install' | 'uninstall',
  options: DdlTriggerOptions = {},
): Promise<boolean> {
  const client = await new Connector(parseConfig({ connection })).connect('ddl triggers')
  try {
    const before = await client.query(ddlTriggersSql)
    if (change === 'uninstall') {
      await client.query(unwatchPartitionsSql)
      await client.query(ddlUninstallSql)
    } else if (options.partitions === true || (await watches(client))) {
      await client.query(`${ddlInstallSql}${ddlPartitionsSql}`)
      await client.query(watchPartitionsSql)
    } else await client.query(ddlInstallSql)
    return before.rows.length > 0
  } catch (error) {
    if (sqlState(error) === '55P03') throw new MoonlinkError('retry', 'PG_LOCK_TIMEOUT', `${messageOf(error)}.`, { cause: error })
    if (sqlState(error) !== '42501') throw error
    throw new MoonlinkError(
      'invalid',
      'PG_DDL_PRIVILEGE',
      `${messageOf(error)}: event triggers need a superuser, or the role that the service has for it. Let one run what moonlink ddl sql prints.`,
      { cause: error },
    )
  } finally {
    await disconnect(client)
  }
}

async function watches(client: pg.Client): Promise<boolean> {
  return (await client.query<{ oid: number | null }>(`SELECT ${ON_TRUNCATE_OID} AS oid`)).rows[0].oid !== null
}
