import type { ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import type { ObjectMeta } from '@moonlink/core'
import { OddAnswer } from './odd-answer.ts'
import type { S3Location } from './s3-uri.ts'

/** One page of a list: its objects, and where the next page begins; null where there is none. */
export interface ListedPage {
  readonly objects: readonly ObjectMeta[]
  readonly next: string | null
}

/** Reads the pages of one list, in order. */
export class PageReader {
  private readonly prefix: S3Location
  /** First keys of the pages, and where they began: none comes twice. */
  private readonly seen = new Set<string>()

  constructor(prefix: S3Location) {
    this.prefix = prefix
  }

  /** Throws `OddAnswer` where it can't be a page of the list. */
  read(page: ListObjectsV2CommandOutput): ListedPage {
    const { Contents = [], IsTruncated, KeyCount, NextContinuationToken: token } = page
    if (IsTruncated === undefined && KeyCount === undefined && Contents.length === 0) throw new OddAnswer('an answer that is no list')
    const { bucket, head, key: prefix } = this.prefix
    const objects: ObjectMeta[] = []
    for (const { Key, LastModified, Size } of Contents) {
      if (Key === undefined || !Key.startsWith(prefix)) throw new OddAnswer('a list of other keys')
      if (Size === undefined || !Number.isSafeInteger(Size) || Size < 0) throw new OddAnswer(`a list in which ${Key} has no size`)
      if (!Key.endsWith('/')) objects.push({ uri: `${head}${bucket}/${Key}`, size: Size, modifiedMs: LastModified?.getTime() ?? 0 })
    }
    if (IsTruncated !== true) return { objects, next: null }
    if (token === undefined || token === '') throw new OddAnswer('a list that goes on nowhere')
    const marks = [`at ${token}`, `from ${Contents[0]?.Key ?? ''}`]
    if (marks.some((mark) => this.seen.has(mark))) throw new OddAnswer('a list whose pages come again')
    for (const mark of marks) this.seen.add(mark)
    return { objects, next: token }
  }
}
