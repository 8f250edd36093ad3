import { MoonlinkError } from '@moonlink/core'
import { readBody } from './s3-body.ts'
import { isNotFound, readFailure, type S3Failure } from './s3-errors.ts'
import type { S3Connection, S3Requests } from './s3-requests.ts'
import type { S3Location } from './s3-uri.ts'

/**
 * Each put carries a token of its own in the object's metadata. An answer can get lost after the store carried the request out; the
 * repeated request then finds an object, and only the token tells whether it is ours or somebody else's with the same bytes.
 */
export const TOKEN_KEY = 'moonlink-put'

export interface Put {
  readonly uri: string
  readonly location: S3Location
  readonly bytes: Uint8Array
  readonly token: string
  /** Create only where there is no such object. */
  readonly ifAbsent: boolean
}

export function isPreconditionFailed(failure: S3Failure): boolean {
  return failure.status === 412
}

/**
 * Says whether the object that is there is the one an earlier attempt of ours may have made. A store that keeps no metadata leaves only
 * the bytes to go by; there two callers with the very same bytes may both be told `created`.
 */
export async function whoseIsIt(requests: S3Requests, put: Put): Promise<'created' | 'exists'> {
  const owner = await requests.run('write', put.uri, (connection) => ownerOf(connection, put))
  if (owner === 'nobody') {
    throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', `${put.uri} was made and removed while it was being created; try again.`, {
      context: { uri: put.uri },
    })
  }
  return owner === 'us' ? 'created' : 'exists'
}

/** Whose object is there. */
export async function ownerOf(connection: S3Connection, { bytes, location, token }: Put): Promise<'us' | 'another' | 'nobody'> {
  const found = await readToken(connection, location)
  if (found === 'gone') return 'nobody'
  if (found !== 'none') return found === token ? 'us' : 'another'
  const { client, sdk } = connection
  const answer = await client.send(new sdk.GetObjectCommand({ Bucket: location.bucket, Key: location.key }))
  return Buffer.compare(await readBody(answer, undefined), bytes) === 0 ? 'us' : 'another'
}

async function readToken({ client, sdk }: S3Connection, location: S3Location): Promise<string> {
  try {
    const answer = await client.send(new sdk.HeadObjectCommand({ Bucket: location.bucket, Key: location.key }))
    return answer.Metadata?.[TOKEN_KEY] ?? 'none'
  } catch (error) {
    const failure = readFailure(error)
    if (failure !== null && isNotFound(failure)) return 'gone'
    throw error
  }
}
