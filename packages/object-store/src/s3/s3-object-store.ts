import { joinBytes, type ByteRange, type ObjectBytes, type ObjectMeta, type ObjectStore } from '@moonlink/core'
import { assertRange } from '../byte-range.ts'
import { objectNotFound } from '../errors.ts'
import { OddAnswer } from './odd-answer.ts'
import { readBody } from './s3-body.ts'
import { isNotFound, readFailure } from './s3-errors.ts'
import { PageReader, type ListedPage } from './s3-list.ts'
import { resolveS3Options, type S3ObjectStoreOptions } from './s3-options.ts'
import { putObject } from './s3-put.ts'
import { S3Requests } from './s3-requests.ts'
import { splitS3Object, splitS3Uri } from './s3-uri.ts'

/**
 * Objects in S3, or in a server that speaks its protocol, by `s3://bucket/key` (`s3a:` and `s3n:` too). The key is what follows the
 * bucket, nothing decoded.
 *
 * `putIfAbsent` is `If-None-Match: *`, which needs a store that honours it (AWS, MinIO, SeaweedFS, versitygw …; see
 * `checkConditionalPut`). An answer lost after the store carried the request out still gives `created`: each put carries a token that tells whose
 * object is there.
 *
 * Codes besides `OBJECT_NOT_FOUND`: `BUCKET_NOT_FOUND`, `STORE_NOT_READABLE`, `STORE_NOT_WRITABLE`, `STORE_CREDENTIALS`, `STORE_REGION`,
 * `STORE_FULL`, `STORE_UNSUPPORTED`, `STORE_REFUSED` and `URI_MALFORMED` (`invalid`), `STORE_UNAVAILABLE` (`retry`, after the store's own
 * repetition; what was being written may or may not be there; so, too, where what answers is no store, such as a proxy), `OBJECT_CORRUPT`
 * (`corrupt`: the bytes of an object of AWS, which is asked for its checksum, are never those that were stored).
 *
 * Not promised: keys that end with `/` (other programs' directory markers) are neither written nor listed; that `head` tells a missing
 * bucket from a missing object.
 */
export class S3ObjectStore implements ObjectStore {
  readonly #requests: S3Requests

  constructor(options: S3ObjectStoreOptions = {}) {
    this.#requests = new S3Requests(resolveS3Options(options))
  }

  async get(uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted()
    const { bucket: Bucket, key: Key } = splitS3Object(uri)
    if (range !== undefined) assertRange(range)
    if (range?.length === 0) return this.#getNothing(uri)
    try {
      return await this.#requests.run('read', uri, async ({ client, sdk }) => {
        const command = new sdk.GetObjectCommand({ Bucket, Key, ...(range === undefined ? {} : { Range: rangeHeader(range) }) })
        try {
          return await readBody(await client.send(command, signal === undefined ? {} : { abortSignal: signal }), range)
        } catch (error) {
          // Past the end of the object, or any range of an empty one.
          if (readFailure(error)?.status === 416) return new Uint8Array()
          throw error
        }
      })
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    }
  }

  async head(uri: string): Promise<ObjectMeta | null> {
    const { bucket: Bucket, key: Key } = splitS3Object(uri)
    return this.#requests.run('read', uri, async ({ client, sdk }) => {
      try {
        const answer = await client.send(new sdk.HeadObjectCommand({ Bucket, Key }))
        if (answer.ContentLength === undefined) throw new OddAnswer('an answer without a length')
        return { uri, size: answer.ContentLength, modifiedMs: answer.LastModified?.getTime() ?? 0 }
      } catch (error) {
        const failure = readFailure(error)
        if (failure !== null && isNotFound(failure)) return null
        throw error
      }
    })
  }

  async put(uri: string, bytes: ObjectBytes): Promise<void> {
    await putObject(this.#requests, uri, splitS3Object(uri), joinBytes(bytes), false)
  }

  async putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    return putObject(this.#requests, uri, splitS3Object(uri), bytes, true)
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    const location = splitS3Uri(prefix)
    const { bucket: Bucket, key: Prefix } = location
    const pages = new PageReader(location)
    for (let from: string | null = null; ;) {
      const token: string | null = from
      const { next, objects }: ListedPage = await this.#requests.run('list', prefix, async ({ client, sdk }) =>
        pages.read(
          await client.send(new sdk.ListObjectsV2Command({ Bucket, Prefix, ...(token === null ? {} : { ContinuationToken: token }) })),
        ),
      )
      yield* objects
      if (next === null) return
      from = next
    }
  }

  async delete(uri: string): Promise<void> {
    const { bucket: Bucket, key: Key } = splitS3Object(uri)
    await this.#requests.run('delete', uri, async ({ client, sdk }) => {
      try {
        await client.send(new sdk.DeleteObjectCommand({ Bucket, Key }))
      } catch (error) {
        const failure = readFailure(error)
        if (failure === null || !isNotFound(failure)) throw error
      }
    })
  }

  /** Ends the connections. The store may be used again. */
  async close(): Promise<void> {
    await this.#requests.close()
  }

  async #getNothing(uri: string): Promise<Uint8Array> {
    if ((await this.head(uri)) === null) throw objectNotFound(uri)
    return new Uint8Array()
  }
}

function rangeHeader(range: ByteRange): string {
  return range.offset === null ? `bytes=-${range.length}` : `bytes=${range.offset}-${range.offset + range.length - 1}`
}
