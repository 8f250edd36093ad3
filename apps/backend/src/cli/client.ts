import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { MoonlinkError, parseJsonLossless, type JsonValue } from '@moonlink/core'
import { errorSchema } from '../http/schemas.ts'

/** Where a client command looks by itself. */
export const defaultUrl = 'http://127.0.0.1:3030'

/** Talks to a running backend. Requests have no time-out of their own: the backend's answer has. */
export class BackendClient {
  readonly url: string
  readonly #token: string | undefined

  constructor(url: string, token?: string) {
    this.url = url.replace(/\/+$/, '')
    this.#token = token
  }

  async get<T>(path: string): Promise<T> {
    return this.#json<T>('GET', path)
  }

  async post<T>(path: string, body: unknown = {}): Promise<T> {
    return this.#json<T>('POST', path, body)
  }

  async delete<T>(path: string): Promise<T> {
    return this.#json<T>('DELETE', path)
  }

  /** The lines of a streamed answer, as values; integers that a number would change come as bigints. */
  async *lines(path: string, body: unknown): AsyncGenerator<JsonValue, void, undefined> {
    const response = await this.#send('POST', path, body)
    for await (const line of createInterface({ input: response, crlfDelay: Infinity })) if (line !== '') yield parseJsonLossless(line)
  }

  async #json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.#send(method, path, body)
    return JSON.parse(await text(response)) as T
  }

  async #send(method: string, path: string, body?: unknown): Promise<IncomingMessage> {
    const response = await this.#open(method, path, body === undefined ? undefined : JSON.stringify(body))
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300) return response
    throw errorOf(await text(response), status, this.url)
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
    return backendError(JSON.parse(body))
  } catch {
    return new MoonlinkError('invalid', 'NOT_A_BACKEND', `${url} answered with status ${status} and no error of ours; is it a backend?`)
  }
}

/** The error that an answer holds. Throws where it holds none. */
export function backendError(body: unknown): MoonlinkError {
  const { kind, code, message, context } = errorSchema.parse(body).error
  return new MoonlinkError(kind, code, message, { context })
}
