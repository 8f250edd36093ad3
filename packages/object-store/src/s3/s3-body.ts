import type { ByteRange } from '@moonlink/core'
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3'
import { resolveRange } from '../byte-range.ts'
import { OddAnswer } from './odd-answer.ts'

/** Bytes that do not fit the checksum that the store has of them: damaged on their way, or where they lie. */
export class DamagedBody extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'DamagedBody'
  }
}

/** The bytes that were asked for. Throws `OddAnswer` where others came, `DamagedBody` where the store's own checksum says so. */
export async function readBody(answer: GetObjectCommandOutput, range: ByteRange | undefined): Promise<Uint8Array> {
  const bytes = (await answer.Body?.transformToByteArray().catch(rethrow)) ?? new Uint8Array()
  if (answer.ContentLength !== undefined && answer.ContentLength !== bytes.length)
    throw new OddAnswer(`${bytes.length} bytes instead of ${answer.ContentLength}`)
  const said = answer.ContentRange
  if (range === undefined) {
    if (said !== undefined) throw new OddAnswer(`${said} instead of the whole object`)
    return bytes
  }
  if (said !== undefined) {
    if (!isAnswerTo(range, said, bytes.length)) throw new OddAnswer(`${said} (${bytes.length} bytes) instead of the range`)
    return bytes
  }
  // HTTP leaves it to a server whether it knows ranges: this is the whole object.
  const { end, start } = resolveRange(range, bytes.length)
  return bytes.slice(start, end)
}

/** The SDK tells of a checksum by a plain error (`ChecksumStream` of @smithy/core). */
function rethrow(error: unknown): never {
  if (error instanceof Error && error.message.startsWith('Checksum mismatch')) throw new DamagedBody(error.message)
  throw error
}

function isAnswerTo(range: ByteRange, said: string, length: number): boolean {
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(said)
  if (match === null) return false
  const [first, last, size] = match.slice(1).map(Number)
  if (last - first + 1 !== length) return false
  // Of an object of unknown size.
  if (Number.isNaN(size)) return first === range.offset && length === range.length
  const { end, start } = resolveRange(range, size)
  return first === start && last === end - 1
}
