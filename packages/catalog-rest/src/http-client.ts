import { isMoonlinkError, MoonlinkError, parseJsonLossless, stringifyJsonLossless } from '@moonlink/core'
import { answerError, networkError, timedOut } from './http-errors.ts'
import type { Credentials, HttpAnswer, HttpRequest } from './http-message.ts'
import type { Settings } from './options.ts'

const MAX_BACKOFF_MS = 5_000

/** JSON over HTTP with a time-out, repetition of what may be repeated, and errors that say what to do. */
export class HttpClient {
  readonly #settings: Settings

  constructor(settings: Settings) {
    this.#settings = settings
  }

  /**
   * Sends and returns an answer of status 2xx. Any other throws a `MoonlinkError` whose `context` has `status` (null where no answer
   * came), `type` (the server's error type, or null) and `mayHaveHappened` (false where the server certainly did nothing).
   */
  async send(request: HttpRequest, credentials: Credentials): Promise<HttpAnswer> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#sendOnce(request, credentials)
      } catch (error) {
        if (!this.#mayRepeat(error, request) || attempt >= this.#settings.maxAttempts) throw error
        this.#settings.logger.debug('catalog request repeated', {
          method: request.method,
          path: request.path,
          attempt,
          code: codeOf(error),
        })
      }
      await this.#settings.clock.sleep(this.backoffMs(attempt))
    }
  }

  async #sendOnce(request: HttpRequest, credentials: Credentials): Promise<HttpAnswer> {
    const { uri, timeoutMs, clock } = this.#settings
    const limit = new AbortController()
    const done = new AbortController()
    clock.sleep(timeoutMs, done.signal).then(
      () => limit.abort(),
      () => {},
    )
    try {
      const response = await fetch(uri + request.path, {
        method: request.method,
        headers: headersOf(request, credentials),
        redirect: 'manual',
        signal: limit.signal,
        ...(request.body === undefined ? {} : { body: stringifyJsonLossless(request.body) }),
      })
      const text = await response.text()
      if (!response.ok) throw answerError(request, uri, response.status, text, credentials)
      return {
        status: response.status,
        body: text === '' ? null : parseJsonLossless(text, `the answer of ${request.method} ${request.path}`),
      }
    } catch (error) {
      if (isMoonlinkError(error)) throw error
      throw limit.signal.aborted ? timedOut(request, uri, timeoutMs) : networkError(request, uri, error)
    } finally {
      done.abort(new Error('answered'))
    }
  }

  #mayRepeat(error: unknown, request: HttpRequest): boolean {
    return isMoonlinkError(error, 'retry') && (request.idempotent || error.context['mayHaveHappened'] === false)
  }

  /** Pause before the next attempt: full jitter above half of it, so that clients which failed together do not come back together. */
  backoffMs(attempt: number): number {
    const pause = Math.min(MAX_BACKOFF_MS, this.#settings.backoffMs * 2 ** (attempt - 1))
    const [byte] = this.#settings.random.bytes(1)
    return pause * (0.5 + byte / 512)
  }
}

function headersOf(request: HttpRequest, credentials: Credentials): Record<string, string> {
  return {
    accept: 'application/json',
    ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(credentials.token === null ? {} : { authorization: `Bearer ${credentials.token}` }),
    ...credentials.headers,
  }
}

function codeOf(error: unknown): string | null {
  return error instanceof MoonlinkError ? error.code : null
}
