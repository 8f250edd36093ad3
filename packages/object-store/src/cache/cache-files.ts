import { createHash } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { MoonlinkError, systemDisk, type ObjectStore } from '@moonlink/core'

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
export async function adoptFiles(directory: string): Promise<readonly LeftFile[]> {
  await mkdir(directory, { recursive: true })
  const whole = new Map<string, LeftFile & { readonly modifiedMs: number }>()
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    const match = COMPLETE.exec(name)
    const stats = match ? await stat(path) : null
    const key = match ? `${match[1]}-${match[2]}` : null
    if (key !== null && stats !== null && stats.size === Number(match![2]) && !whole.has(key)) {
      whole.set(key, { key, path, sizeBytes: stats.size, modifiedMs: stats.mtimeMs })
    } else if (match || PARTIAL.test(name)) {
      await rm(path, { force: true })
    }
  }
  return [...whole.values()].sort((a, b) => a.modifiedMs - b.modifiedMs)
}

/** Fetches the object in chunks into a file that gets its name when it is whole and on disk. */
export async function fetchFile(store: ObjectStore, uri: string, sizeBytes: number, path: string): Promise<void> {
  const partial = `${path}.part`
  try {
    await fetchChunks(store, uri, sizeBytes, partial)
    await rename(partial, path)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}

async function fetchChunks(store: ObjectStore, uri: string, sizeBytes: number, path: string): Promise<void> {
  // Whose writes are whole: the system's may end short where a disk runs full.
  const file = await systemDisk.open(path, 'createNew')
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
