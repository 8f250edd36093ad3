import { dirname } from 'node:path'
import { MoonlinkError } from '@moonlink/core'
import { objectNotFound } from '../errors.ts'

/** What was being done; it decides which permission is missing. */
export type Access = 'read' | 'write'

/** The name of the system's error (`ENOENT`), or undefined for an error that is not the system's. */
export function errnoOf(error: unknown): string | undefined {
  const isSystemError = error instanceof Error && 'errno' in error && 'code' in error && typeof error.code === 'string'
  return isSystemError ? (error.code as string) : undefined
}

/** True where the system says that nothing is at that path, be it that a parent is missing or is a file. */
export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** The system's error as one that says what to do about it. */
export function mapLocalError(error: unknown, access: Access, uri: string, path: string): unknown {
  const code = errnoOf(error)
  if (code === undefined) return error
  const details = { context: { uri, path, errno: code }, cause: error }
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return access === 'read'
        ? new MoonlinkError(
            'invalid',
            'STORE_NOT_READABLE',
            `may not read ${path}: give this user read permission on it (${code}).`,
            details,
          )
        : new MoonlinkError(
            'invalid',
            'STORE_NOT_WRITABLE',
            `may not write ${path}: give this user write permission on ${dirname(path)} (${code}).`,
            details,
          )
    case 'EROFS':
      return new MoonlinkError(
        'invalid',
        'STORE_NOT_WRITABLE',
        `may not write ${path}: the file system is read-only; mount it writable or choose another directory.`,
        details,
      )
    case 'ENOSPC':
    case 'EDQUOT':
      return new MoonlinkError(
        'invalid',
        'STORE_FULL',
        `no room to write ${path}: ${code === 'EDQUOT' ? 'the disk quota is used up' : 'the disk is full'}; free space, then the mirror goes on.`,
        details,
      )
    case 'EMFILE':
    case 'ENFILE':
      return new MoonlinkError(
        'retry',
        'STORE_UNAVAILABLE',
        `could not ${access} ${path}: ${code === 'EMFILE' ? 'this process' : 'the system'} has as many files open as it may; raise the limit (${code === 'EMFILE' ? 'ulimit -n, LimitNOFILE= of systemd' : 'sysctl fs.file-max'}).`,
        details,
      )
    case 'EISDIR':
    case 'ENOTDIR':
    case 'EEXIST':
    case 'ENOTEMPTY':
      return access === 'read'
        ? objectNotFound(uri, error)
        : new MoonlinkError(
            'invalid',
            'STORE_NOT_WRITABLE',
            `cannot write ${path}: a file stands where a directory is needed, or the other way round; move it away (${code}).`,
            details,
          )
    case 'ENAMETOOLONG':
      return new MoonlinkError('invalid', 'URI_MALFORMED', `cannot use ${uri}: the name is too long for the file system.`, details)
    default:
      if (access === 'read' && isAbsent(error)) return objectNotFound(uri, error)
      return new MoonlinkError('retry', 'STORE_UNAVAILABLE', `could not ${access} ${path}: ${code}.`, details)
  }
}
