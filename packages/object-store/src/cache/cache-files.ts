import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { MoonlinkError, type LocalDisk, type ObjectStore } from '@moonlink/core'

const CHUNK_BYTES = 8 * 1024 * 1024
const CHUNKS_AT_ONCE = 3

/** `<sha-256 of the URI>-<size>-<nonce>`. The nonce makes a file that is fetched again another file than the one being removed. */
const COMPLETE = /^([0-9a-f]{64})-(\d+)-[0-9a-f]{8}$/
const PARTIAL = /^[0-9a-f]{64}-\d+-[0-9a-f]{8}\.part$/

/** What names an object in the cache: its URI, hashed, and its size. */
export function cacheKey(uri: string, sizeBytes: number): string {
  return `${createHash('sha256').update(uri).digest('hex')}-${sizeBytes}`
}

export interface LeftFile {
  readonly key: string
  readonly path: string
  readonly sizeBytes: number
}

/**
 * Whole files that an earlier process left in the directory, least recently used first. Half-fetched ones and doubles are removed;
 * files that are not the cache's are left alone. Makes the directory.
 */
export async function adoptFiles(disk: LocalDisk, directory: string): Promise<readonly LeftFile[]> {
  await disk.makeDirectory(directory)
  const whole = new Map<string, LeftFile & { readonly modifiedMs: number }>()
  for (const name of await disk.list(directory)) {
    const path = join(directory, name)
    const match = COMPLETE.exec(name)
    const stats = match ? await disk.stat(path) : null
    const key = match ? `${match[1]}-${match[2]}` : null
    if (key !== null && stats !== null && stats.size === Number(match![2]) && !whole.has(key)) {
      whole.set(key, { key, path, sizeBytes: stats.size, modifiedMs: stats.modifiedMs })
    } else if (match || PARTIAL.test(name)) {
      await disk.remove(path)
    }
  }
  return [...whole.values()].sort((a, b) => a.modifiedMs - b.modifiedMs)
}

export interface FetchOptions {
  readonly store: ObjectStore
  readonly disk: LocalDisk
  readonly uri: string
  readonly sizeBytes: number
  readonly path: string
}

/** Fetches the object in chunks into a file that gets its name when it is whole and on disk. */
export async function fetchFile(options: FetchOptions): Promise<void> {
  const { disk, path } = options
  const partial = `${path}.part`
  try {
    await fetchChunks({ ...options, path: partial })
    await disk.rename(partial, path)
  } catch (error) {
    // What stays behind is removed by the next process.
    await disk.remove(partial).catch(() => undefined)
    throw error
  }
}

async function fetchChunks({ disk, path, sizeBytes, store, uri }: FetchOptions): Promise<void> {
  const file = await disk.open(path, 'createNew')
  try {
    let next = 0
    let hasFailed = false
    const worker = async () => {
      while (next < sizeBytes && !hasFailed) {
        const offset = next
        const length = Math.min(CHUNK_BYTES, sizeBytes - offset)
        next += length
        try {
          const bytes = await store.get(uri, { offset, length })
          if (bytes.length !== length) throw sizeWrong(uri, sizeBytes, offset + bytes.length)
          await file.write(bytes, offset)
        } catch (error) {
          hasFailed = true
          throw error
        }
      }
    }
    const workers = Array.from({ length: CHUNKS_AT_ONCE }, worker)
    await Promise.allSettled(workers)
    await Promise.all(workers)
    if (sizeBytes === 0) await store.get(uri, { offset: 0, length: 0 })
    // Or a power cut could leave a file of the right size with nothing in it, to be adopted later.
    await file.sync()
  } finally {
    await file.close()
  }
}

function sizeWrong(uri: string, sizeBytes: number, found: number): MoonlinkError {
  return new MoonlinkError(
    'corrupt',
    'OBJECT_SIZE_WRONG',
    `${uri} should have ${sizeBytes} bytes but ends at ${found}: it was cut short or replaced.`,
    {
      context: { uri, sizeBytes, found },
    },
  )
}
