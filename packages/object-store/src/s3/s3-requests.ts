import type { S3Client } from '@aws-sdk/client-s3'
import { requireProgress } from './least-progress.ts'
import { requireSetup } from './s3-setup.ts'
import { isPassing, isRefused, mapFailure, readFailure, type S3Action, type S3Failure } from './s3-errors.ts'
import type { S3Credentials, S3Settings } from './s3-options.ts'

type Sdk = typeof import('@aws-sdk/client-s3')

/** The SDK and a client of it. */
export interface S3Connection {
  readonly sdk: Sdk
  readonly client: S3Client
}

const MAX_BACKOFF_MS = 5_000

/** Reaches the providers of the chain, which would take the shared files as they once were. */
const READ_FILES_AGAIN = { ignoreCache: true }

/**
 * Sends requests, again where that helps. The SDK's own repetition is off: whoever puts conditionally has to know whether an
 * earlier attempt may have been carried out.
 */
export class S3Requests {
  readonly settings: S3Settings
  #connection: Promise<S3Connection> | null = null

  constructor(settings: S3Settings) {
    this.settings = settings
  }

  /**
   * Runs `attempt` until it succeeds, at most `maxAttempts` times. `onFailure` sees each failure that may pass and returns a result to
   * end with, or undefined to go on. What does not pass, and the last failure, are thrown as `MoonlinkError`.
   */
  async run<T>(
    action: S3Action,
    uri: string,
    attempt: (connection: S3Connection) => Promise<T>,
    onFailure: (failure: S3Failure) => Promise<T | undefined> = () => Promise.resolve(undefined),
  ): Promise<T> {
    const { maxAttempts, clock, logger } = this.settings
    let hasOthers = false
    for (let count = 1; ; count++) {
      const outcome = await this.#attempt(attempt)
      if ('result' in outcome) return outcome.result
      const { failure, usedKey } = outcome
      if (!hasOthers && isRefused(failure) && (await this.#findOthers(usedKey))) {
        hasOthers = true
        logger.info('the object store refused the credentials; others were found', { uri, name: failure.name })
        continue
      }
      const instead = await onFailure(failure)
      if (instead !== undefined) return instead
      if (!isPassing(failure) && !isContended(failure)) throw mapFailure(failure, action, uri, this.settings.endpoint)
      if (count >= maxAttempts) throw mapFailure(asPassing(failure), action, uri, this.settings.endpoint)
      logger.debug('object store request repeated', { action, uri, attempt: count, name: failure.name })
      await clock.sleep(this.#backoffMs(count))
    }
  }

  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => null)
    connection?.client.destroy()
    this.#connection = null
  }

  async #attempt<T>(attempt: (connection: S3Connection) => Promise<T>): Promise<{ result: T } | { failure: S3Failure; usedKey: string }> {
    let usedKey = ''
    try {
      const connection = await this.#connected()
      usedKey = keyOf(await requireSetup(connection.client, this.settings))
      return { result: await attempt(connection) }
    } catch (error) {
      const failure = readFailure(error)
      if (failure === null) throw error
      return { failure, usedKey }
    }
  }

  /** Whether the chain has other credentials than those that were refused: the SDK reads files that change, and keeps what has no end, only until it is told to look again. */
  async #findOthers(usedKey: string): Promise<boolean> {
    if (this.settings.credentials !== null) return false
    const { client } = await this.#connected()
    try {
      if (keyOf(await requireSetup(client, this.settings)) !== usedKey) return true
      return keyOf(await requireSetup(client, this.settings, { forceRefresh: true })) !== usedKey
    } catch {
      // What the store said is what counts.
      return false
    }
  }

  /** The SDK is loaded by the first request: who mirrors to local disk does not wait for it. */
  #connected(): Promise<S3Connection> {
    this.#connection ??= import('@aws-sdk/client-s3').then((sdk) => ({ sdk, client: createClient(sdk, this.settings) }))
    return this.#connection
  }

  #backoffMs(attempt: number): number {
    const pause = Math.min(MAX_BACKOFF_MS, this.settings.backoffMs * 2 ** (attempt - 1))
    const [byte] = this.settings.random.bytes(1)
    return pause * (0.5 + byte / 512)
  }
}

function keyOf({ accessKeyId, sessionToken }: S3Credentials): string {
  return `${accessKeyId} ${sessionToken ?? ''}`
}

/** Another conditional request for the same key is under way; S3 asks to come again. */
export function isContended(failure: S3Failure): boolean {
  return failure.status === 409 && failure.name === 'ConditionalRequestConflict'
}

function asPassing(failure: S3Failure): S3Failure {
  return isContended(failure) ? { ...failure, status: 503 } : failure
}

function createClient(sdk: Sdk, settings: S3Settings): S3Client {
  const { region, endpoint, credentials, timeoutMs } = settings
  const client = new sdk.S3Client({
    ...(region === null ? {} : { region }),
    ...(endpoint === null ? {} : { endpoint }),
    ...(credentials === null ? {} : { credentials }),
    ...READ_FILES_AGAIN,
    forcePathStyle: settings.forcePathStyle,
    maxAttempts: 1,
    // Servers other than AWS need not know the newer checksums; the signature covers the bytes anyway.
    ...(endpoint === null ? {} : { requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED' }),
    requestHandler: {
      connectionTimeout: timeoutMs,
      socketTimeout: timeoutMs,
      httpAgent: { maxSockets: 64 },
      httpsAgent: { maxSockets: 64 },
    },
  })
  requireProgress(client, timeoutMs)
  return client
}
