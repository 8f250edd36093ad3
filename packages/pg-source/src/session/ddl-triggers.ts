import { MoonlinkError } from '@moonlink/core'
import { parseConfig } from './config.ts'
import { Connector, disconnect } from './connect.ts'
import { ddlInstallSql, ddlTriggersSql, ddlUninstallSql } from './ddl-sql.ts'
import { messageOf, sqlState } from './errors.ts'

/**
 * Installs or removes the event triggers that write changes of tables into the stream, in one transaction. Returns whether there were any before. Throws
 * `invalid`/`PG_DDL_PRIVILEGE` where the user may not, and what connecting throws.
 */
export async function changeDdlTriggers(connection: string, change: 'install' | 'uninstall'): Promise<boolean> {
  const client = await new Connector(parseConfig({ connection })).connect('ddl triggers')
  try {
    const before = await client.query(ddlTriggersSql)
    await client.query(change === 'install' ? ddlInstallSql : ddlUninstallSql)
    return before.rows.length > 0
  } catch (error) {
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
