import { isMoonlinkError, MoonlinkError } from '@moonlink/core'

/**
 * What DuckDB said, as our error. Its message names the thing; the full text, with the place in the statement, is in
 * `context.detail`.
 */
export function sqlError(cause: unknown): MoonlinkError {
  if (isMoonlinkError(cause)) return cause
  const detail = cause instanceof Error ? cause.message : String(cause)
  const message = firstSentence(detail)
  const context = { detail }
  if (detail.startsWith('Out of Memory Error') && detail.includes('max_temp_directory_size')) {
    const spill = 'the query needs more disk to spill to than queries may take (sql.spillBytes). Raise that, or ask for less at once.'
    return new MoonlinkError('invalid', 'SQL_SPILL_FULL', spill, { context, cause })
  }
  if (detail.startsWith('Out of Memory Error')) {
    return new MoonlinkError('invalid', 'SQL_OUT_OF_MEMORY', `${message} Give SQL more memory, or ask for less at once.`, {
      context,
      cause,
    })
  }
  if (/^(INTERRUPT Error|Interrupted)/.test(detail)) {
    return new MoonlinkError('retry', 'QUERY_CANCELLED', 'the query was cancelled.', { context, cause })
  }
  if (/^(IO|HTTP) Error/.test(detail)) return new MoonlinkError('retry', 'SQL_IO', message, { context, cause })
  if (/^(INTERNAL|FATAL) Error/.test(detail)) return new MoonlinkError('bug', 'SQL_ENGINE', message, { context, cause })
  return new MoonlinkError('invalid', 'SQL_ERROR', message, { context, cause })
}

/** DuckDB prints the statement and a caret below its message; one line is what fits an error's message. */
function firstSentence(detail: string): string {
  return detail
    .split(/\n\s*\nLINE |\nLINE /)[0]
    .replace(/\s*\n\s*/g, ' ')
    .trim()
}
