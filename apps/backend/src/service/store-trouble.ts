import { isMoonlinkError } from '@moonlink/core'

/** What keeps a warehouse from taking files until somebody makes room, or gives credentials anew: a mirror that runs goes on by itself then. */
const WAITED_FOR: ReadonlySet<string> = new Set(['STORE_FULL', 'STORE_CREDENTIALS'])

export function isStoreTrouble(error: unknown): boolean {
  return isMoonlinkError(error) && WAITED_FOR.has(error.code)
}
