import { isMoonlinkError, MoonlinkError } from '@moonlink/core'

export function isDiskFull(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOSPC' || code === 'EDQUOT'
}

/** What the disk of the state directory said, as an error that may pass: what is there can be made again, so whoever wrote tries again. Others stay as they are. */
export function stateDiskError(error: unknown, verb: 'read' | 'written', path: string): unknown {
  if (isMoonlinkError(error) || !(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return error
  const { code } = error
  const isFull = isDiskFull(error)
  const remedy = isFull ? 'free space there' : 'check its disk and its permissions'
  const message = `${path} can't be ${verb} (${code}): ${remedy}. It is tried again until then.`
  return new MoonlinkError('retry', isFull ? 'STATE_FULL' : 'STATE_FAILED', message, { context: { path, errno: code }, cause: error })
}
