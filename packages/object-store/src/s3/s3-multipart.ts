import { MoonlinkError } from '@moonlink/core'
import { OddAnswer } from './odd-answer.ts'
import { mayHaveHappened, type S3Failure } from './s3-errors.ts'
import { isPreconditionFailed, TOKEN_KEY, whoseIsIt, type Put } from './s3-ownership.ts'
import { isContended, type S3Requests } from './s3-requests.ts'

const MAX_PARTS = 10_000
const PARTS_AT_ONCE = 4
const CONTENTION_ATTEMPTS = 3

interface UploadedPart {
  readonly PartNumber: number
  readonly ETag: string
}

/**
 * Uploads an object in parts, a few at a time. The object appears when the last request, which carries the condition, succeeds. An
 * upload that fails is aborted, so that its parts cost nothing; a crash leaves them for the bucket's own life-cycle rules.
 */
export async function uploadInParts(requests: S3Requests, put: Put): Promise<'created' | 'exists'> {
  for (let attempt = 1; ; attempt++) {
    const outcome = await uploadOnce(requests, put)
    if (outcome !== 'contended') return outcome
    // S3 wants the parts again where another conditional request was under way.
    if (attempt === CONTENTION_ATTEMPTS) {
      throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', `${put.uri} is being written by others all the time; try again.`, {
        context: { uri: put.uri },
      })
    }
  }
}

async function uploadOnce(requests: S3Requests, put: Put): Promise<'created' | 'exists' | 'contended'> {
  const { bucket: Bucket, key: Key } = put.location
  const uploadId = await requests.run('write', put.uri, async ({ client, sdk }) => {
    const answer = await client.send(new sdk.CreateMultipartUploadCommand({ Bucket, Key, Metadata: { [TOKEN_KEY]: put.token } }))
    if (!answer.UploadId) throw new OddAnswer('an upload without an id')
    return answer.UploadId
  })
  let outcome: 'created' | 'exists' | 'contended' | 'failed' = 'failed'
  try {
    const parts = await uploadParts(requests, put, uploadId)
    outcome = await complete(requests, put, uploadId, parts)
    return outcome
  } finally {
    if (outcome !== 'created') await abort(requests, put, uploadId)
  }
}

async function uploadParts(requests: S3Requests, put: Put, uploadId: string): Promise<UploadedPart[]> {
  const partBytes = Math.max(requests.settings.partBytes, Math.ceil(put.bytes.length / MAX_PARTS))
  const count = Math.ceil(put.bytes.length / partBytes)
  const parts: UploadedPart[] = []
  let next = 1
  let hasFailed = false
  const worker = async () => {
    while (next <= count && !hasFailed) {
      const number = next++
      const body = put.bytes.subarray((number - 1) * partBytes, number * partBytes)
      try {
        parts[number - 1] = await uploadPart(requests, put, uploadId, number, body)
      } catch (error) {
        hasFailed = true
        throw error
      }
    }
  }
  const workers = Array.from({ length: Math.min(PARTS_AT_ONCE, count) }, worker)
  // All of them end before the upload may be aborted: a part that arrives later would stay.
  await Promise.allSettled(workers)
  await Promise.all(workers)
  return parts
}

async function uploadPart(requests: S3Requests, put: Put, uploadId: string, number: number, body: Uint8Array): Promise<UploadedPart> {
  return requests.run('write', put.uri, async ({ client, sdk }) => {
    const answer = await client.send(
      new sdk.UploadPartCommand({
        Bucket: put.location.bucket,
        Key: put.location.key,
        UploadId: uploadId,
        PartNumber: number,
        Body: body,
        ContentLength: body.length,
      }),
    )
    if (!answer.ETag) throw new OddAnswer('an answer without an ETag')
    return { PartNumber: number, ETag: answer.ETag }
  })
}

async function complete(
  requests: S3Requests,
  put: Put,
  uploadId: string,
  parts: readonly UploadedPart[],
): Promise<'created' | 'exists' | 'contended'> {
  let isUncertain = false
  return requests.run<'created' | 'exists' | 'contended'>(
    'write',
    put.uri,
    async ({ client, sdk }) => {
      const answer = await client.send(
        new sdk.CompleteMultipartUploadCommand({
          Bucket: put.location.bucket,
          Key: put.location.key,
          UploadId: uploadId,
          MultipartUpload: { Parts: [...parts] },
          ...(put.ifAbsent ? { IfNoneMatch: '*' } : {}),
        }),
      )
      // Its status comes before the store knows whether it can: errors come behind it.
      if (!answer.ETag) throw new OddAnswer('an answer without an ETag')
      return 'created'
    },
    async (failure) => {
      if (isContended(failure)) return 'contended'
      if (isPreconditionFailed(failure)) return isUncertain ? whoseIsIt(requests, put) : 'exists'
      if (isUncertain && isUploadGone(failure)) return completedBefore(requests, put)
      isUncertain ||= mayHaveHappened(failure)
      return undefined
    },
  )
}

/** An upload is gone once it has been completed. */
function isUploadGone(failure: S3Failure): boolean {
  return failure.name === 'NoSuchUpload'
}

/** The upload is gone after a lost answer: it was completed, or aborted by another. Our token on the object tells. */
async function completedBefore(requests: S3Requests, put: Put): Promise<'created' | 'exists'> {
  if ((await whoseIsIt(requests, put)) === 'created') return 'created'
  // A plain put that was replaced by a later one is done all the same; a conditional one lost.
  return put.ifAbsent ? 'exists' : 'created'
}

async function abort(requests: S3Requests, put: Put, uploadId: string): Promise<void> {
  const { bucket: Bucket, key: Key } = put.location
  try {
    await requests.run('write', put.uri, ({ client, sdk }) =>
      client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId: uploadId })),
    )
  } catch (error) {
    requests.settings.logger.warn('a multipart upload could not be aborted; its parts stay until a life-cycle rule removes them', {
      uri: put.uri,
      uploadId,
      reason: error instanceof Error ? error.message : String(error),
    })
  }
}
