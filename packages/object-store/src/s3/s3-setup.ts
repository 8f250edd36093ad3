import { MoonlinkError } from '@moonlink/core'
import type { S3Client } from '@aws-sdk/client-s3'
import { isPassing, readFailure } from './s3-errors.ts'
import type { S3Credentials, S3Settings } from './s3-options.ts'

/** For the SDK's whole chain, which asks services that may not answer, such as a machine's metadata service. */
const CREDENTIALS_WITHIN_MS = 10_000

const CREDENTIALS_REMEDY =
  'set s3.accessKeyId and s3.secretAccessKey, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile (whose credential_process has to succeed), or run with a role'

/** Each says where credentials are to come from. */
const SOURCES = [
  'AWS_PROFILE',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
]

/**
 * Throws where a request can't even be made: `invalid`/`STORE_REGION`, `invalid`/`STORE_CREDENTIALS`, or `retry`/`STORE_CREDENTIALS` where a service that has
 * them does not answer. The SDK keeps what it found, so that to ask again costs nothing.
 */
export async function requireSetup(
  { config }: S3Client,
  { timeoutMs }: S3Settings,
  options: { readonly forceRefresh?: boolean } = {},
): Promise<S3Credentials> {
  const [foundRegion, found] = await Promise.allSettled([
    config.region(),
    within(Math.min(timeoutMs, CREDENTIALS_WITHIN_MS), config.credentials(options)),
  ])
  if (foundRegion.status === 'fulfilled' && found.status === 'fulfilled') return found.value
  const [region, credentials] = [errorOf(foundRegion), errorOf(found)]
  const missing = [
    ...(region === null ? [] : ['no region for S3 is set: set s3.region or AWS_REGION']),
    ...(credentials === null ? [] : [credentialsMissing(credentials)]),
  ]
  const mayPass = region === null && credentials !== null && passes(credentials)
  throw new MoonlinkError(mayPass ? 'retry' : 'invalid', region === null ? 'STORE_CREDENTIALS' : 'STORE_REGION', `${missing.join('; ')}.`, {
    cause: region ?? credentials,
  })
}

/** Of a file that credentials, or what proves who asks for them, are in. */
const FILE_MISSING = new Set(['ENOENT', 'EACCES', 'EISDIR'])

/** A service that should have given credentials and did not answer in time. */
class NoAnswer extends Error {}

function credentialsMissing(error: Error): string {
  const named = SOURCES.filter((name) => Boolean(process.env[name])).join(' and ')
  if (error.message.startsWith('Could not load credentials from any providers'))
    return named === ''
      ? `no credentials for S3 were found: ${CREDENTIALS_REMEDY}`
      : `no credentials for S3 were found where ${named} says: look at what it names, or ${CREDENTIALS_REMEDY}`
  const said = error.message.replaceAll(/\s+/g, ' ').trim().replace(/\.$/, '')
  const where = named === '' ? '' : `look at what ${named} names, or `
  return `the credentials for S3 can't be had (${said}): ${where}${CREDENTIALS_REMEDY}`
}

function passes(error: Error): boolean {
  const failure = readFailure(error)
  return error instanceof NoAnswer || (failure !== null && isPassing(failure) && !FILE_MISSING.has(failure.name))
}

function errorOf(outcome: PromiseSettledResult<unknown>): Error | null {
  if (outcome.status === 'fulfilled') return null
  return outcome.reason instanceof Error ? outcome.reason : new Error(String(outcome.reason))
}

async function within<T>(limitMs: number, found: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NoAnswer(`the service that has them did not answer within ${limitMs} ms`)), limitMs)
  })
  try {
    return await Promise.race([found, late])
  } finally {
    clearTimeout(timer)
  }
}
