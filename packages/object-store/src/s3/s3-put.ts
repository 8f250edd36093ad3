import { randomUuid } from '@moonlink/core'
import { OddAnswer } from './odd-answer.ts'
import { mayHaveHappened } from './s3-errors.ts'
import { uploadInParts } from './s3-multipart.ts'
import { isPreconditionFailed, ownerOf, TOKEN_KEY, whoseIsIt, type Put } from './s3-ownership.ts'
import type { S3Requests } from './s3-requests.ts'
import type { S3Location } from './s3-uri.ts'

/** Writes an object; `exists` only where `ifAbsent`. */
export async function putObject(
  requests: S3Requests,
  uri: string,
  location: S3Location,
  bytes: Uint8Array,
  ifAbsent: boolean,
): Promise<'created' | 'exists'> {
  const put: Put = { uri, location, bytes, token: randomUuid(requests.settings.random), ifAbsent }
  if (bytes.length > requests.settings.multipartThresholdBytes) return uploadInParts(requests, put)
  let isUncertain = false
  return requests.run(
    'write',
    uri,
    async (connection) => {
      const { client, sdk } = connection
      const answer = await client.send(
        new sdk.PutObjectCommand({
          Bucket: location.bucket,
          Key: location.key,
          Body: bytes,
          ContentLength: bytes.length,
          Metadata: { [TOKEN_KEY]: put.token },
          ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
        }),
      )
      // Every store says it: without it, the answer may be anybody's.
      if (!answer.ETag && (await ownerOf(connection, put)) !== 'us') throw new OddAnswer('an answer without an ETag')
      return 'created' as const
    },
    async (failure) => {
      if (isPreconditionFailed(failure)) return isUncertain ? whoseIsIt(requests, put) : 'exists'
      isUncertain ||= mayHaveHappened(failure)
      return undefined
    },
  )
}
