import { MoonlinkError, type Logger } from '@moonlink/core'
import type { Config } from '../config/schema.ts'
import type { SourceHandle } from './parts.ts'

/** Connects to the source and checks everything that would keep a mirror from running. */
export async function openSource(config: Config, url: string, logger: Logger): Promise<SourceHandle> {
  logger.debug('opening the source', { slot: config.source.slot, length: url.length })
  throw new MoonlinkError('bug', 'NOT_BUILT', 'the source is not built yet')
}
