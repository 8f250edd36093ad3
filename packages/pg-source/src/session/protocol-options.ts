import { MoonlinkError } from '@moonlink/core'
import type { PgSourceSettings } from './config.ts'

/**
 * The options of pgoutput that say how transactions are sent, as the server's version has them. Throws `invalid`/`PG_VERSION` where it
 * lacks one that was asked for.
 */
export function protocolOptions(
  versionNumber: number,
  { origin, streaming, twoPhase }: Pick<PgSourceSettings, 'origin' | 'streaming' | 'twoPhase'>,
): string[] {
  const has = (major: number) => versionNumber >= major * 10_000
  const needs = (major: number, setting: string) => {
    if (has(major)) return
    throw new MoonlinkError('invalid', 'PG_VERSION', `${setting} needs Postgres ${major} or later. Upgrade the server, or leave it out.`)
  }
  if (twoPhase) needs(15, 'source.twoPhase')
  if (origin !== 'any') needs(16, `source.origin ${origin}`)
  const options = [`proto_version '${has(16) ? 4 : has(15) ? 3 : 2}'`, `messages 'true'`]
  // Parallel only adds where an abort was; a subscriber that applies in parallel needs that.
  if (streaming) options.push(`streaming '${has(16) ? 'parallel' : 'on'}'`)
  if (twoPhase) options.push(`two_phase 'on'`)
  if (origin !== 'any') options.push(`origin '${origin}'`)
  return options
}
