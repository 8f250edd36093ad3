import { open, rm, rmdir, stat, unlink, type FileHandle } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { systemRandom, type ByteRange, type ObjectBytes, type ObjectMeta, type ObjectStore, type Random } from '@moonlink/core'
import { resolveRange } from '../byte-range.ts'
import { objectNotFound } from '../errors.ts'
import { malformed, splitFileUri } from '../uri.ts'
import { createDurably, replaceDurably, TEMPORARY_PREFIX } from './durable-write.ts'
import { errnoOf, isAbsent, mapLocalError, type Access } from './local-errors.ts'
import { LocalRoot } from './local-root.ts'
import { walkFiles } from './walk.ts'

/** Bytes read at once, so that an abort is noticed within a large object. */
const READ_CHUNK_BYTES = 16 * 1024 * 1024

export interface LocalObjectStoreOptions {
  /** Names temporary files. Default: the system's. */
  readonly random?: Random
  /**
   * URI of the directory that the objects lie below. One below it that a delete empties goes too; once it was seen, it is not made again where it is away, be it missing
   * or, as of a disk that is not mounted, another one that is empty: that is `STORE_UNAVAILABLE`, for reads of what is absent, too. Default: directories stay, and are made.
   */
  readonly root?: string
}

/**
 * Objects as files on local disk, by `file:///…` URI; directories are made as needed. Durable as core's
 * port says: a file is synced before it gets its name, and its directory after.
 *
 * Codes besides `OBJECT_NOT_FOUND`: `STORE_NOT_WRITABLE`, `STORE_NOT_READABLE`, `STORE_FULL`, `STORE_WITHOUT_LINKS` and
 * `URI_MALFORMED` (`invalid`), `STORE_UNAVAILABLE` (`retry`; a write that failed so may or may not be there).
 *
 * Not promised: an object whose name is also a directory of another (`a` and `a/b`); `putIfAbsent` on file systems without hard links.
 */
export class LocalObjectStore implements ObjectStore {
  readonly #random: Random
  readonly #root: LocalRoot | null

  constructor(options: LocalObjectStoreOptions = {}) {
    this.#random = options.random ?? systemRandom
    const { root } = options
    this.#root = root === undefined ? null : new LocalRoot(splitFileUri(root).path)
  }

  async get(uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted()
    const path = objectPath(uri)
    return this.#attempt('read', uri, path, async () => {
      const handle = await open(path, 'r')
      try {
        const stats = await handle.stat()
        if (!stats.isFile()) throw objectNotFound(uri)
        const { start, end } = resolveRange(range, stats.size)
        return await readBytes(handle, start, end, signal)
      } finally {
        await handle.close()
      }
    })
  }

  async head(uri: string): Promise<ObjectMeta | null> {
    const path = objectPath(uri)
    return this.#attempt('read', uri, path, async () => {
      const stats = await stat(path).catch((error: unknown) => {
        if (isAbsent(error)) return null
        throw error
      })
      if (stats === null) await this.#requireRoot(path)
      return stats?.isFile() ? { uri, size: stats.size, modifiedMs: stats.mtimeMs } : null
    })
  }

  async put(uri: string, bytes: ObjectBytes): Promise<void> {
    const path = objectPath(uri)
    await this.#attempt('write', uri, path, () => replaceDurably(path, bytes, this.#random))
  }

  async putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    const path = objectPath(uri)
    const created = await this.#attempt('write', uri, path, () => createDurably(path, bytes, this.#random))
    return created ? 'created' : 'exists'
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    const { head, path } = splitFileUri(prefix)
    try {
      await this.#requireRoot(path)
      for await (const file of walkFiles(path)) yield { uri: head + file.path, size: file.stats.size, modifiedMs: file.stats.mtimeMs }
    } catch (error) {
      throw mapLocalError(error, 'read', prefix, path)
    }
  }

  async delete(uri: string): Promise<void> {
    const path = objectPath(uri)
    await this.#attempt('write', uri, path, async () => {
      await unlink(path).catch((error: unknown) => {
        if (!isAbsent(error) && errnoOf(error) !== 'EISDIR') throw error
      })
    })
    await this.#removeEmpty(dirname(path))
  }

  /** What is not empty, or can't be removed, stays; whoever writes there just now makes it again. */
  async #removeEmpty(directory: string): Promise<void> {
    if (this.#root === null || !this.#root.has(directory)) return
    const isRemoved = await rmdir(directory).then(
      () => true,
      () => false,
    )
    if (isRemoved) await this.#removeEmpty(dirname(directory))
  }

  /**
   * Removes the files in the making that a crash left below `prefix` and that were last written before `beforeMs`
   * (milliseconds since 1970; choose it well before any write that may still run). Returns how many.
   */
  async removeTemporaries(prefix: string, beforeMs: number): Promise<number> {
    const { path } = splitFileUri(prefix)
    return this.#attempt('write', prefix, path, async () => {
      let removed = 0
      for await (const file of walkFiles(path, 'temporaries')) {
        if (file.stats.mtimeMs >= beforeMs) continue
        await rm(file.path, { force: true })
        removed++
      }
      return removed
    })
  }

  async #attempt<T>(access: Access, uri: string, path: string, work: () => Promise<T>): Promise<T> {
    try {
      if (access === 'write') await this.#requireRoot(path)
      return await work()
    } catch (error) {
      if (access === 'read' && isAbsent(error)) await this.#requireRoot(path)
      throw mapLocalError(error, access, uri, path)
    }
  }

  async #requireRoot(path: string): Promise<void> {
    if (this.#root?.has(path) === true) await this.#root.requirePresent()
  }
}

function objectPath(uri: string): string {
  const { path } = splitFileUri(uri)
  if (path.endsWith('/')) throw malformed(uri, "an object's name does not end with /")
  if (basename(path).startsWith(TEMPORARY_PREFIX))
    throw malformed(uri, `names that start with ${TEMPORARY_PREFIX} are kept for files in the making`)
  return path
}

async function readBytes(handle: FileHandle, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - start)
  let filled = 0
  while (filled < bytes.length) {
    signal?.throwIfAborted()
    const length = Math.min(READ_CHUNK_BYTES, bytes.length - filled)
    const { bytesRead } = await handle.read(bytes, filled, length, start + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return filled === bytes.length ? bytes : bytes.slice(0, filled)
}
