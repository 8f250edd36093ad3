import { isMoonlinkError, MoonlinkError, type ErrorKind } from '@moonlink/core'
import { objectNotFound } from '../errors.ts'
import { TooSlow } from './least-progress.ts'
import { OddAnswer } from './odd-answer.ts'
import { DamagedBody } from './s3-body.ts'

/** What was being done, for the message; a permission is missing for this. */
export type S3Action = 'read' | 'write' | 'list' | 'delete'

/** A failed request, reduced to what decides. */
export interface S3Failure {
  /** The store's error code, or the system's for a connection (`ECONNRESET`). */
  readonly name: string
  readonly message: string
  /** Null where no answer came. */
  readonly status: number | null
  /** Region that the bucket is in, where the answer says so. */
  readonly region: string | null
}

const NOT_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL'])
const CREDENTIALS = /^(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|TokenRefreshRequired|InvalidClientTokenId)/
const EXPIRED = /^(ExpiredToken|TokenRefreshRequired)/
/** What was sent arrived otherwise. */
const DAMAGED_ON_THE_WAY = /^(BadDigest|XAmzContentChecksumMismatch|XAmzContentSHA256Mismatch)$/
const CHECKSUM_MISMATCH = 'ChecksumMismatch'
const BUSY = /^(SlowDown|RequestTimeout|RequestTimeTooSkewed|InternalError|ServiceUnavailable|Throttling|TooManyRequests|OperationAborted)/
const FULL = /^(QuotaExceeded|StorageFull|XMinioStorageFull|XMinioAdminBucketQuotaExceeded|InsufficientCapacity)/

/** Reads what the SDK threw. Null for an error that is none of the store's: a bug, or an abort. */
export function readFailure(error: unknown): S3Failure | null {
  if (!(error instanceof Error) || isMoonlinkError(error)) return null
  if (error instanceof OddAnswer || error instanceof TooSlow)
    return { name: error.message, message: error.message, status: null, region: null }
  if (error instanceof DamagedBody) return { name: CHECKSUM_MISMATCH, message: error.message, status: null, region: null }
  const { $metadata, $response, code, Code } = error as Error & SdkErrorFields
  const status = $metadata?.httpStatusCode ?? $response?.statusCode ?? null
  const systemCode = code ?? (error.name === 'TimeoutError' ? 'TimeoutError' : undefined)
  if (status === null && systemCode === undefined) return null
  // It came, and could not be read.
  if (status !== null && status < 300) return { name: "an answer that is not S3's", message: error.message, status: null, region: null }
  return {
    name: status === null ? systemCode! : (Code ?? error.name),
    message: error.message.replaceAll(/\s+/g, ' ').trim().replace(/\.$/, ''),
    status,
    region: $response?.headers?.['x-amz-bucket-region'] ?? null,
  }
}

interface SdkErrorFields {
  readonly $metadata?: { readonly httpStatusCode?: number }
  readonly $response?: { readonly statusCode?: number; readonly headers?: Readonly<Record<string, string>> }
  readonly code?: string
  readonly Code?: string
}

/** True where the same request may succeed later. */
export function isPassing(failure: S3Failure): boolean {
  return (
    failure.status === null ||
    failure.status >= 500 ||
    failure.status === 429 ||
    BUSY.test(failure.name) ||
    DAMAGED_ON_THE_WAY.test(failure.name)
  )
}

/** True where the store may have carried the request out although it failed. */
export function mayHaveHappened(failure: S3Failure): boolean {
  if (failure.status === null) return !NOT_SENT.has(failure.name)
  return failure.status >= 500 && failure.name !== 'SlowDown'
}

/** True where other credentials may be accepted. */
export function isRefused(failure: S3Failure): boolean {
  return CREDENTIALS.test(failure.name)
}

export function isNotFound(failure: S3Failure): boolean {
  // HEAD has no body, so its 404 has no code of its own.
  return failure.name === 'NoSuchKey' || (failure.status === 404 && !['NoSuchBucket', 'NoSuchUpload'].includes(failure.name))
}

/** The failure as an error that names bucket and key and says what to do. Holds no request, for requests are signed. */
export function mapFailure(failure: S3Failure, action: S3Action, uri: string, endpoint: string | null): MoonlinkError {
  const where = endpoint === null ? 'S3' : `the object store at ${endpoint}`
  const said = `${failure.name}${failure.status === null ? '' : ` ${failure.status}`}`
  const make = (kind: ErrorKind, code: string, line: string) =>
    new MoonlinkError(kind, code, line, {
      context: { uri, action, status: failure.status, name: failure.name },
      cause: new Error(`${failure.name}: ${failure.message}`),
    })
  if (failure.name === CHECKSUM_MISMATCH) {
    const line = `what ${where} sends of ${uri} is not what was stored there, each time it is read (${failure.message.replace(/\.$/, '')}): restore the object from a version or a replica of the bucket.`
    return make('corrupt', 'OBJECT_CORRUPT', line)
  }
  const bucket = /^[^/]*\/\/([^/]+)/.exec(uri)?.[1] ?? uri
  if (failure.name === 'NoSuchBucket')
    return make('invalid', 'BUCKET_NOT_FOUND', `${where} has no bucket ${bucket}: create it, or correct its name.`)
  if (failure.status === 301 || failure.name === 'PermanentRedirect' || failure.name === 'AuthorizationHeaderMalformed') {
    const region = failure.region === null ? 'its own region' : failure.region
    return make('invalid', 'STORE_REGION', `the bucket ${bucket} is in another region: set the region to ${region} (${said}).`)
  }
  if (isNotFound(failure)) return objectNotFound(uri, new Error(`${failure.name}: ${failure.message}`))
  if (EXPIRED.test(failure.name)) {
    const line = `${where} says that the credentials have expired (${said}): renew them where they come from (the profile's session, AWS_SESSION_TOKEN or s3.sessionToken); those in files and of services are looked for again by themselves.`
    return make('invalid', 'STORE_CREDENTIALS', line)
  }
  if (isRefused(failure)) {
    return make(
      'invalid',
      'STORE_CREDENTIALS',
      `${where} does not accept the credentials (${said}): are the key and the secret right and still valid?`,
    )
  }
  if (failure.status === 401 || failure.status === 403) {
    const [code, permission] = PERMISSIONS[action]
    return make('invalid', code, `may not ${action} ${uri}: allow ${permission} on bucket ${bucket} to these credentials (${said}).`)
  }
  if (failure.status === 507 || FULL.test(failure.name)) {
    return make('invalid', 'STORE_FULL', `no room to write ${uri}: ${where} is full (${said}); free space, then the mirror goes on.`)
  }
  if (failure.status === 501) {
    const line = `${where} cannot do what is needed to ${action} ${uri} (${said}: ${failure.message}); use a store with conditional puts.`
    return make('invalid', 'STORE_UNSUPPORTED', line)
  }
  if (isPassing(failure)) {
    if (NOT_SENT.has(failure.name)) return make('retry', 'STORE_UNAVAILABLE', `cannot reach ${where} (${said}): is it running there?`)
    // Some servers answer so for want of room too.
    const advice = action === 'write' && failure.status === 500 ? ': if that goes on, look whether it is well and has room' : ''
    return make('retry', 'STORE_UNAVAILABLE', `${where} failed to ${action} ${uri} (${said})${advice}.`)
  }
  return make('invalid', 'STORE_REFUSED', `${where} refused to ${action} ${uri} (${said}: ${failure.message}).`)
}

const PERMISSIONS = {
  read: ['STORE_NOT_READABLE', 's3:GetObject and s3:ListBucket'],
  list: ['STORE_NOT_READABLE', 's3:ListBucket'],
  write: ['STORE_NOT_WRITABLE', 's3:PutObject and s3:AbortMultipartUpload'],
  delete: ['STORE_NOT_WRITABLE', 's3:DeleteObject'],
} as const satisfies Record<S3Action, readonly [string, string]>
