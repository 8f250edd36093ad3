import { MoonlinkError } from '@moonlink/core'
import {
  changeDdlTriggers,
  ddlInstallSql,
  ddlPartitionsSql,
  ddlUninstallSql,
  unwatchPartitionsSql,
  watchPartitionsSql,
} from '@moonlink/pg-source'
import type { Config } from '../config/schema.ts'
import { say } from './commands.ts'

/** Installs or removes the event triggers of the configured source; `partitions`: and a trigger on each partition. */
export async function changeDdl(config: Config, change: 'install' | 'uninstall', partitions?: boolean): Promise<void> {
  const { url } = config.source
  if (url === undefined)
    throw new MoonlinkError('invalid', 'SOURCE_MISSING', 'no source is named; name it with --source, --config or DATABASE_URL.')
  const wereThere = await changeDdlTriggers(url, change, { partitions: partitions === true })
  if (change === 'install') return say('the event triggers are installed: a change of schema is told at its place in the log')
  await say(wereThere ? 'the event triggers are removed' : 'there were no event triggers of ours to remove')
}

export function ddlSql({ partitions, uninstall }: { readonly partitions?: boolean; readonly uninstall?: boolean }): string {
  if (uninstall === true) return `${unwatchPartitionsSql}${ddlUninstallSql}`
  return partitions === true ? `${ddlInstallSql}${ddlPartitionsSql}${watchPartitionsSql}` : ddlInstallSql
}
