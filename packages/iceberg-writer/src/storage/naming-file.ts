import { isMoonlinkError, MoonlinkError } from '@moonlink/core'

/** What to throw where reading a file of the table failed: an error about its bytes says which file's they are; any other is the same. */
export function namingFile(path: string, error: unknown): unknown {
  if (!isMoonlinkError(error, 'corrupt') || 'path' in error.context) return error
  const remedy = 'restore it from a backup, or drop the table from the mirror and add it again'
  return new MoonlinkError('corrupt', error.code, `${path}: ${error.message}; ${remedy}`, {
    context: { ...error.context, path },
    cause: error,
  })
}
