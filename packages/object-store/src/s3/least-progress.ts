import { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { S3Client } from '@aws-sdk/client-s3'

/** What is used here of the SDK's requests, which it leaves untyped. */
interface SentRequest {
  readonly method: string
  readonly query: Readonly<Record<string, unknown>>
  readonly body?: unknown
  clone(): SentRequest
}

interface HandlerOptions {
  readonly abortSignal?: unknown
}

/** What a connection has to move on average while it sends or receives: far less than is of any use. */
const LEAST_BYTES_PER_SECOND = 4 * 1024
const CHUNK_BYTES = 256 * 1024
/** Until the answer begins: a connection has to be made, and a store may think. */
const WINDOWS_UNTIL_ANSWER = 2
const WINDOWS_OF_ANSWER = 1
/** S3 sends white space while it puts an upload's parts together, for minutes. */
const WINDOWS_TO_COMPLETE = 20

/** A request that got on too slowly, such as one whose answer drips: that is no silence, so no time-out of the socket ends it. */
export class TooSlow extends Error {
  constructor(bytes: number, windowMs: number) {
    super(`only ${bytes} bytes in ${windowMs} ms`)
    this.name = 'TooSlow'
  }
}

/** From now on, ends requests that move too little within `windowMs`, out or in, with `TooSlow`. A silent socket is left to the handler's own time-out. */
export function requireProgress({ config: { requestHandler } }: S3Client, windowMs: number): void {
  const handle = requestHandler.handle.bind(requestHandler)
  requestHandler.handle = async (request: SentRequest, options: HandlerOptions = {}) => {
    const body = request.body instanceof Uint8Array && request.body.length > 0 ? new CountedBody(request.body) : null
    const completes = request.method === 'POST' && request.query['uploadId'] !== undefined
    const slow = new AbortController()
    const stop = watch({
      windowMs,
      patience: completes ? WINDOWS_TO_COMPLETE : WINDOWS_UNTIL_ANSWER,
      bytes: () => body?.sentBytes ?? 0,
      onSlow: (error) => slow.abort(error),
    })
    const abortSignal = AbortSignal.any([slow.signal, ...(options.abortSignal instanceof AbortSignal ? [options.abortSignal] : [])])
    try {
      const sent = body === null ? request : Object.assign(request.clone(), { body: body.stream })
      const answered = await handle(sent, { ...options, abortSignal })
      watchAnswer(answered.response.body, windowMs, completes ? WINDOWS_TO_COMPLETE : WINDOWS_OF_ANSWER)
      return answered
    } catch (error) {
      throw slow.signal.aborted ? slow.signal.reason : error
    } finally {
      stop()
    }
  }
}

/** A body that is handed out in pieces, as the connection takes them. */
class CountedBody {
  readonly stream: Readable
  sentBytes = 0

  constructor(bytes: Uint8Array) {
    this.stream = Readable.from(this.#pieces(bytes), { objectMode: false, highWaterMark: CHUNK_BYTES })
  }

  *#pieces(bytes: Uint8Array): Generator<Uint8Array> {
    for (let offset = 0; offset < bytes.length; offset += CHUNK_BYTES) {
      yield bytes.subarray(offset, offset + CHUNK_BYTES)
      this.sentBytes = Math.min(bytes.length, offset + CHUNK_BYTES)
    }
  }
}

/** Until all of it has come. */
function watchAnswer(body: unknown, windowMs: number, patience: number): void {
  if (!(body instanceof IncomingMessage)) return
  const { socket } = body
  const stop = watch({ windowMs, patience, bytes: () => socket.bytesRead, onSlow: (error) => void body.destroy(error) })
  body.once('close', stop)
}

interface Watched {
  readonly windowMs: number
  /** Of how many windows in a row too little may move, less one. */
  readonly patience: number
  readonly bytes: () => number
  readonly onSlow: (error: TooSlow) => void
}

function watch({ bytes, onSlow, patience, windowMs }: Watched): () => void {
  const leastBytes = (windowMs / 1000) * LEAST_BYTES_PER_SECOND
  let seen = bytes()
  let slowWindows = 0
  const timer = setInterval(() => {
    const moved = bytes() - seen
    seen += moved
    slowWindows = moved < leastBytes ? slowWindows + 1 : 0
    if (slowWindows < patience) return
    clearInterval(timer)
    onSlow(new TooSlow(moved, windowMs))
  }, windowMs)
  return () => clearInterval(timer)
}
