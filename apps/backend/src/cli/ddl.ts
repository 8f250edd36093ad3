import { MoonlinkError } from '@moonlink/core'
import { changeDdlTriggers, ddlInstallSql, ddlUninstallSql } from '@moonlink/pg-source'
import type { Config } from '../config/schema.ts'
import { print } from './commands.ts'

/** Installs or removes the event triggers of the configured source. */
export async function changeDdl(config: Config, change: 'install' | 'uninstall'): Promise<void> {
  const { url } = config.source
  if (url === undefined)
    throw new MoonlinkError('invalid', 'SOURCE_MISSING', 'no source is named; name it with --source, --config or DATABASE_URL.')
  await changeDdlTriggers(url, change)
  await print(
    change === 'install'
      ? 'the event triggers are installed: a change of schema is told at its place in the log\n'
      : 'the event triggers are removed\n',
  )
}

export function ddlSql(uninstall: boolean): string {
  return uninstall ? ddlUninstallSql : ddlInstallSql
}
