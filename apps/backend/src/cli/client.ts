import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isJsonObject, MoonlinkError, parseJsonLossless, type JsonValue } from '@moonlink/core'
import { z } from 'zod'
import { errorSchema, type ErrorBody } from '../http/schemas.ts'

/** Where a client command looks by itself. */
export const defaultUrl = 'http://127.0.0.1:3030'

/** Characters of an answer, or of a line of a streamed one: more than any has that means well. */
const MAX_ANSWER_LENGTH = 256 * 2 ** 20

/** Talks to a running backend. Requests have no time-out of their own: the backend's answer has. */
export class BackendClient {
  readonly url: string
  readonly #token: string | undefined

  constructor(url: string, token?: string) {
    this.url = url.replace(/\/+$/, '')
    this.#token = token
  }

  async get<T = unknown>(path: string, answer: z.ZodType<T> = z.any()): Promise<T> {
    return this.#json('GET', path, undefined, answer)
  }

  async post<T = unknown>(path: string, body: unknown = {}, answer: z.ZodType<T> = z.any()): Promise<T> {
    return this.#json('POST', path, body, answer)
  }

  async delete(path: string): Promise<void> {
    await this.#json('DELETE', path, undefined, z.unknown())
  }

  /** The lines of a streamed answer, as values; integers that a number would change come as bigints. Throws the error that one of them holds. */
  async *lines(path: string, body: unknown): AsyncGenerator<JsonValue, void, undefined> {
    const response = await this.#send('POST', path, body)
    for await (const line of linesOf(this.#chunks(response))) {
      if (line.trim() === '') continue
      const value = this.#parsed(() => parseJsonLossless(line))
      if (isJsonObject(value) && 'error' in value) throw backendError(this.understood(errorSchema, value))
      yield value
    }
  }

  /** What was answered, as it came, where it is what it should be. Throws `invalid`/`NOT_A_BACKEND`. */
  understood<T>(answer: z.ZodType<T>, value: unknown): T {
    const { error } = answer.safeParse(value)
    if (error !== undefined) throw this.#misunderstood(error)
    return value as T
  }

  async #json<T>(method: string, path: string, body: unknown, answer: z.ZodType<T>): Promise<T> {
    const response = await this.#send(method, path, body)
    const text = await this.#text(response)
    return this.understood(
      answer,
      this.#parsed(() => JSON.parse(text) as unknown),
    )
  }

  #parsed<T>(parse: () => T): T {
    try {
      return parse()
    } catch (error) {
      throw this.#misunderstood(error)
    }
  }

  #misunderstood(cause?: unknown): MoonlinkError {
    const message = `${this.url} answered what this moonlink does not understand; is it a backend, and of the same version?`
    return new MoonlinkError('invalid', 'NOT_A_BACKEND', message, { cause })
  }

  async #text(response: IncomingMessage): Promise<string> {
    let text = ''
    for await (const chunk of this.#chunks(response)) {
      text += chunk
      if (text.length > MAX_ANSWER_LENGTH) throw this.#misunderstood()
    }
    return text
  }

  async *#chunks(response: IncomingMessage): AsyncGenerator<string, void, undefined> {
    response.setEncoding('utf8')
    try {
      for await (const chunk of response) yield chunk as string
    } catch (error) {
      throw new MoonlinkError('retry', 'RESULT_CUT', `${this.url} ended before its answer did; ask again.`, { cause: error })
    }
  }

  async #send(method: string, path: string, body?: unknown): Promise<IncomingMessage> {
    const response = await this.#open(method, path, body === undefined ? undefined : JSON.stringify(body))
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300) return response
    throw errorOf(await this.#text(response), status, this.url)
  }

  #open(method: string, path: string, body: string | undefined): Promise<IncomingMessage> {
    const target = parseUrl(this.url, path)
    const headers = {
      ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
    }
    return new Promise((resolve, reject) => {
      const send = target.protocol === 'https:' ? httpsRequest : httpRequest
      const request = send(target, { method, headers, agent: false }, resolve)
      request.once('error', (error) => reject(unreachable(this.url, error)))
      request.end(body)
    })
  }
}

async function* linesOf(chunks: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let open: string[] = []
  let length = 0
  for await (const chunk of chunks) {
    const [first, ...others] = chunk.split('\n')
    open.push(first)
    length += first.length
    for (const next of others) {
      yield open.join('')
      open = [next]
      length = next.length
    }
    if (length > MAX_ANSWER_LENGTH) throw new MoonlinkError('invalid', 'NOT_A_BACKEND', 'a line of the answer has no end; is it a backend?')
  }
  yield open.join('')
}

function parseUrl(url: string, path: string): URL {
  try {
    const parsed = new URL(url + path)
    if (parsed.protocol === 'http:' || parsed.protocol === 'https:') return parsed
  } catch {
    // Falls through to the message that says what a URL looks like.
  }
  throw new MoonlinkError('invalid', 'USAGE', `"${url}" is not the URL of a backend; write http://127.0.0.1:3030.`)
}

function unreachable(url: string, error: Error): MoonlinkError {
  const reason = (error as NodeJS.ErrnoException).code ?? error.message
  const message = `no backend answers at ${url} (${reason}). Start one with moonlink start, or name it with --url or MOONLINK_URL.`
  return new MoonlinkError('retry', 'BACKEND_UNREACHABLE', message, { cause: error })
}

function errorOf(body: string, status: number, url: string): MoonlinkError {
  try {
    return backendError(errorSchema.parse(JSON.parse(body)))
  } catch {
    return new MoonlinkError('invalid', 'NOT_A_BACKEND', `${url} answered with status ${status} and no error of ours; is it a backend?`)
  }
}

function backendError({ error: { kind, code, message, context } }: ErrorBody): MoonlinkError {
  return new MoonlinkError(kind, code, message, { context })
}
