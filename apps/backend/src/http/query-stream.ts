import { formatLsn, stringifyJsonLossless, type JsonValue } from '@moonlink/core'
import type { RunningQuery } from '../service/running-query.ts'
import { answeredError, errorBody } from './errors.ts'

/** The result as one JSON document, piece by piece. An error after the first piece becomes its `error` field. */
export async function* jsonDocument(query: RunningQuery): AsyncGenerator<string> {
  yield `{"lsn":${JSON.stringify(lsnText(query))},"columns":${JSON.stringify(query.columns)},"rows":[`
  let rowCount = 0
  let failure = ''
  try {
    for await (const rows of query.rows) {
      const text = rows.map(rowText).join(',\n')
      if (text !== '') yield rowCount === 0 ? text : `,\n${text}`
      rowCount += rows.length
    }
  } catch (error) {
    failure = `,"error":${JSON.stringify(errorBody(answeredError(error)).error)}`
  }
  yield `],"rowCount":${rowCount}${failure}}\n`
}

/** The result as lines of JSON: a header, an array for each row, and a trailer with `rowCount` or `error`. */
export async function* jsonLines(query: RunningQuery): AsyncGenerator<string> {
  yield `${JSON.stringify({ lsn: lsnText(query), columns: query.columns })}\n`
  let rowCount = 0
  try {
    for await (const rows of query.rows) {
      if (rows.length > 0) yield `${rows.map(rowText).join('\n')}\n`
      rowCount += rows.length
    }
  } catch (error) {
    yield `${JSON.stringify(errorBody(answeredError(error)))}\n`
    return
  }
  yield `${JSON.stringify({ rowCount })}\n`
}

/** Text pieces as a byte stream that is filled only as fast as it is read. `onEnd` is called at its end, be it read or left. */
export function textStream(pieces: AsyncGenerator<string>, onEnd: () => void): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = await pieces.next()
      if (done !== true) return controller.enqueue(encoder.encode(value))
      onEnd()
      controller.close()
    },
    async cancel() {
      // A generator that was never begun runs none of its own clean-up.
      await pieces.return(undefined)
      onEnd()
    },
  })
}

function rowText(row: readonly JsonValue[]): string {
  return stringifyJsonLossless(row)
}

function lsnText(query: RunningQuery): string | null {
  return query.lsn === null ? null : formatLsn(query.lsn)
}
