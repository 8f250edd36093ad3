import { MoonlinkError } from '@moonlink/core'
import type { S3Client } from '@aws-sdk/client-s3'
import { isPassing, readFailure } from './s3-errors.ts'
import type { S3Settings } from './s3-options.ts'

/** For the SDK's whole chain, which asks services that may not answer, such as a machine's metadata service. */
const CREDENTIALS_WITHIN_MS = 10_000

const CREDENTIALS_REMEDY =
  'set s3.accessKeyId and s3.secretAccessKey, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, or run with a role'

/**
 * Throws where a request can't even be made: `invalid`/`STORE_REGION`, `invalid`/`STORE_CREDENTIALS`, or `retry`/`STORE_CREDENTIALS` where a service that has
 * them does not answer. The SDK keeps what it found, so that to ask again costs nothing.
 */
export async function requireSetup({ config }: S3Client, { timeoutMs }: S3Settings): Promise<void> {
  const [region, credentials] = await Promise.all([
    errorOf(() => config.region()),
    errorOf(() => within(Math.min(timeoutMs, CREDENTIALS_WITHIN_MS), config.credentials())),
  ])
  if (region === null && credentials === null) return
  const missing = [
    ...(region === null ? [] : ['no region for S3 is set: set s3.region or AWS_REGION']),
    ...(credentials === null ? [] : [credentialsMissing(credentials)]),
  ]
  const mayPass = region === null && credentials !== null && passes(credentials)
  throw new MoonlinkError(mayPass ? 'retry' : 'invalid', region === null ? 'STORE_CREDENTIALS' : 'STORE_REGION', `${missing.join('; ')}.`, {
    cause: region ?? credentials,
  })
}

/** A service that should have given credentials and did not answer in time. */
class NoAnswer extends Error {}

function credentialsMissing(error: Error): string {
  if (error.message.startsWith('Could not load credentials from any providers'))
    return `no credentials for S3 were found: ${CREDENTIALS_REMEDY}`
  const said = error.message.replaceAll(/\s+/g, ' ').trim().replace(/\.$/, '')
  return `the credentials for S3 can't be had (${said}): ${CREDENTIALS_REMEDY}`
}

function passes(error: Error): boolean {
  const failure = readFailure(error)
  return error instanceof NoAnswer || (failure !== null && isPassing(failure))
}

async function errorOf(find: () => Promise<unknown>): Promise<Error | null> {
  try {
    await find()
    return null
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

async function within(limitMs: number, found: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NoAnswer(`the service that has them did not answer within ${limitMs} ms`)), limitMs)
  })
  try {
    await Promise.race([found, late])
  } finally {
    clearTimeout(timer)
  }
}
