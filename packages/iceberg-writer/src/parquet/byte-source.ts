import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { footerLength, malformed, readFooter, TRAILER_SIZE } from './footer.ts'
import { readThrift, type ThriftStruct } from './thrift-compact.ts'
import type { ParquetSource } from './types.ts'

/** Small files are read whole by the first read; of larger ones the footer is guessed to fit in this many bytes. */
const TAIL_BYTES = 64 * 1024

/** Reads ranges of a Parquet file. Blocks the thread. */
export interface ByteSource {
  readonly size: number
  /** Fills `target` from `offset` on. Throws `corrupt` where the file ends before. */
  readInto(target: Uint8Array, offset: number): void
}

/** Opens a file, gives it to `use`, and closes it. */
export function withSource<T>(source: ParquetSource, use: (bytes: ByteSource) => T): T {
  if ('bytes' in source) return use(memorySource(source.bytes))
  const fd = openSync(source.path, 'r')
  try {
    return use(fileSource(fd, source.path))
  } finally {
    closeSync(fd)
  }
}

export function readMetadata(source: ByteSource): ThriftStruct {
  if (source.size < TRAILER_SIZE + 4) throw malformed('the file is too short')
  const tail = readRange(source, Math.max(0, source.size - TAIL_BYTES), source.size)
  const length = footerLength(tail.subarray(tail.length - TRAILER_SIZE), source.size)
  if (length + TRAILER_SIZE <= tail.length) return readFooter(tail)
  const start = source.size - TRAILER_SIZE - length
  return readThrift(readRange(source, start, start + length))
}

function readRange(source: ByteSource, start: number, end: number): Uint8Array {
  const bytes = new Uint8Array(end - start)
  source.readInto(bytes, start)
  return bytes
}

function memorySource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    readInto(target, offset) {
      checkRange(offset, target, bytes.length)
      target.set(bytes.subarray(offset, offset + target.length))
    },
  }
}

function fileSource(fd: number, path: string): ByteSource {
  const { size } = fstatSync(fd)
  return {
    size,
    readInto(target, offset) {
      checkRange(offset, target, size)
      let done = 0
      while (done < target.length) {
        const count = readSync(fd, target, done, target.length - done, offset + done)
        if (count === 0) throw malformed(`${path} ends before byte ${offset + target.length}`)
        done += count
      }
    },
  }
}

/** Files name their own ranges; Node would take a negative one as something else. */
function checkRange(offset: number, target: Uint8Array, size: number): void {
  if (offset < 0 || offset + target.length > size) throw malformed('a range lies outside the file')
}
