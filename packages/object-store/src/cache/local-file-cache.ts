import { join } from 'node:path'
import {
  assert,
  MoonlinkError,
  systemClock,
  systemDisk,
  systemRandom,
  type Clock,
  type FileObject,
  type LocalDisk,
  type LocalFileSets,
  type ObjectStore,
  type PinnedFile,
  type PinOptions,
  type Random,
} from '@moonlink/core'
import { objectNotFound } from '../errors.ts'
import { fileUriToPath, schemeOf } from '../uri.ts'
import { errnoOf, mapLocalError } from '../local/local-errors.ts'
import { adoptFiles, cacheKey, fetchFile } from './cache-files.ts'

export interface LocalFileCacheOptions {
  readonly store: ObjectStore
  /** Where copies live; made if missing. One process at a time. */
  readonly directory: string
  /** Upper bound of all copies together, those being fetched included. */
  readonly maxBytes: number
  /** How long a pin waits for room that other pins hold. Default: 10,000 ms. */
  readonly waitMs?: number
  readonly clock?: Clock
  /** Default: the system's. */
  readonly disk?: LocalDisk
  /** Names files. Default: the system's. */
  readonly random?: Random
}

/** Where files don't fit all at once, a run of them takes this share of the room: others read beside it. */
const BATCH_SHARE = 0.25

/** Own files whose presence is remembered. */
const MAX_OWN_FILES = 100_000

interface Entry {
  readonly key: string
  readonly path: string
  readonly sizeBytes: number
  pins: number
  /** Resolves once the file is whole. */
  ready: Promise<void>
}

interface Wanted extends FileObject {
  readonly key: string
}

/**
 * Objects as local files. An object under `file:` is its own file; of any other a copy is kept in a bounded directory, from which the
 * least recently used that nobody pins make room. Objects are taken to be immutable: a copy is never compared with its object again.
 *
 * Besides the port's codes: `retry`/`CACHE_BUSY` where running reads pin so much that an object that would fit does not, even after
 * `waitMs`; `retry`/`CACHE_DISK_FULL` where its disk has no room and no copy is left that nobody pins; `corrupt`/`OBJECT_SIZE_WRONG`.
 *
 * Not promised: sharing the directory with another process; fairness between waiting pins.
 */
export class LocalFileCache implements LocalFileSets {
  readonly #store: ObjectStore
  readonly #directory: string
  readonly #maxBytes: number
  readonly #waitMs: number
  readonly #clock: Clock
  readonly #disk: LocalDisk
  readonly #random: Random
  /** Own files that were there, the most recently met last: objects are immutable, and what is pinned is not deleted. */
  readonly #ownFiles = new Set<string>()
  /** In order of use, the least recent first. */
  readonly #entries = new Map<string, Entry>()
  readonly #waiting = new Set<() => void>()
  #usedBytes = 0
  /** Counts what may have made room, so that none of it is missed between looking and waiting. */
  #releases = 0

  private constructor(options: LocalFileCacheOptions) {
    this.#store = options.store
    this.#directory = options.directory
    this.#maxBytes = options.maxBytes
    this.#waitMs = options.waitMs ?? 10_000
    this.#clock = options.clock ?? systemClock
    this.#disk = options.disk ?? systemDisk
    this.#random = options.random ?? systemRandom
  }

  /** Opens the cache with the copies an earlier process left whole, as far as they fit. */
  static async open(options: LocalFileCacheOptions): Promise<LocalFileCache> {
    const cache = new LocalFileCache(options)
    try {
      for (const { key, path, sizeBytes } of await adoptFiles(cache.#disk, options.directory)) {
        cache.#entries.set(key, { key, path, sizeBytes, pins: 0, ready: Promise.resolve() })
        cache.#usedBytes += sizeBytes
      }
      await cache.#makeRoom(0)
    } catch (error) {
      throw mapLocalError(error, 'write', options.directory, options.directory)
    }
    return cache
  }

  /** Bytes of all copies, those being fetched included. */
  get usedBytes(): number {
    return this.#usedBytes
  }

  async pin(uri: string, sizeBytes: number): Promise<PinnedFile> {
    return (await this.pinAll([{ uri, sizeBytes }]))[0]
  }

  async pinAll(files: readonly FileObject[], { waitMs = this.#waitMs, signal }: PinOptions = {}): Promise<readonly PinnedFile[]> {
    const own = await Promise.all(files.filter(isOwn).map(({ uri }) => this.#pinOwnFile(uri)))
    const remote = files.filter((file) => !isOwn(file)).map((file) => ({ ...file, key: cacheKey(file.uri, file.sizeBytes) }))
    requireFit(remote, this.#maxBytes)
    const copies = await this.#pinCopies(remote, waitMs, signal)
    return files.map((file) => (isOwn(file) ? own : copies).shift()!)
  }

  batches<T extends FileObject>(files: readonly T[]): readonly (readonly T[])[] {
    const sizeOf = (file: FileObject) => (isOwn(file) ? 0 : file.sizeBytes)
    if (files.reduce((sum, file) => sum + sizeOf(file), 0) <= this.#maxBytes) return [files]
    const batches: T[][] = []
    let room = 0
    for (const file of files) {
      const size = sizeOf(file)
      if (size > 0) requireFit([file], this.#maxBytes)
      if (batches.length === 0 || size > room) {
        batches.push([])
        room = this.#maxBytes * BATCH_SHARE
      }
      batches.at(-1)!.push(file)
      room -= size
    }
    return batches
  }

  async drop(uri: string, sizeBytes: number): Promise<boolean> {
    const entry = this.#entries.get(cacheKey(uri, sizeBytes))
    if (!entry) return false
    await this.#remove(entry)
    return true
  }

  async #pinOwnFile(uri: string): Promise<PinnedFile> {
    if (!this.#ownFiles.has(uri)) {
      if ((await this.#store.head(uri)) === null) throw objectNotFound(uri)
      this.#ownFiles.add(uri)
      if (this.#ownFiles.size > MAX_OWN_FILES) this.#ownFiles.delete(this.#ownFiles.values().next().value!)
    }
    return pinnedFile(fileUriToPath(uri), () => {})
  }

  async #pinCopies(wanted: readonly Wanted[], waitMs: number, signal: AbortSignal | undefined): Promise<PinnedFile[]> {
    for (;;) {
      const entries = await this.#pinnedEntries(wanted, waitMs, signal)
      const outcomes = await Promise.allSettled(entries.map((entry) => entry.ready))
      const failed = outcomes.findIndex(({ status }) => status === 'rejected')
      if (failed < 0) return entries.map((entry) => pinnedFile(entry.path, () => this.#release(entry)))
      for (const entry of entries) this.#release(entry)
      const { uri, sizeBytes } = wanted[failed]
      const error: unknown = (outcomes[failed] as PromiseRejectedResult).reason
      if (!isDiskFull(error)) throw mapLocalError(error, 'write', uri, entries[failed].path)
      // Others may have filled the disk: what nobody reads gives way first.
      if (!(await this.#evict(sizeBytes, keysOf(wanted)))) throw diskFull(uri, sizeBytes, this.#directory, error)
    }
  }

  /** The objects' entries with one more pin each; those that are new are being fetched. Waits for room where pins hold it, and holds none meanwhile. */
  async #pinnedEntries(wanted: readonly Wanted[], waitMs: number, signal: AbortSignal | undefined): Promise<readonly Entry[]> {
    const keys = keysOf(wanted)
    const waiting = new AbortController()
    let timeUp: Promise<void> | null = null
    let isOver = false
    try {
      for (;;) {
        // Found and taken in one go: whatever was awaited, others may have used the time.
        const missingBytes = this.#missingBytes(wanted)
        if (this.#fits(missingBytes)) return wanted.map((one) => this.#takeKnown(one.key) ?? this.#take(one))
        const releases = this.#releases
        if ((await this.#makeRoom(missingBytes, keys)) || releases !== this.#releases) continue
        signal?.throwIfAborted()
        if (isOver) throw busy(wanted, missingBytes, this.#maxBytes)
        timeUp ??= this.#clock.sleep(waitMs, signal ? AbortSignal.any([waiting.signal, signal]) : waiting.signal).then(
          () => void (isOver = true),
          () => {},
        )
        await this.#somethingReleased(timeUp)
      }
    } finally {
      waiting.abort(new Error('no longer waiting'))
    }
  }

  #missingBytes(wanted: readonly Wanted[]): number {
    const missing = new Map(wanted.filter(({ key }) => !this.#entries.has(key)).map(({ key, sizeBytes }) => [key, sizeBytes]))
    return sumOf(missing.values())
  }

  #takeKnown(key: string): Entry | null {
    const entry = this.#entries.get(key)
    if (!entry) return null
    entry.pins++
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry
  }

  /** Takes room that is there. */
  #take({ uri, key, sizeBytes }: Wanted): Entry {
    const nonce = Buffer.from(this.#random.bytes(4)).toString('hex')
    const path = join(this.#directory, `${key}-${nonce}`)
    const entry: Entry = { key, path, sizeBytes, pins: 1, ready: Promise.resolve() }
    this.#entries.set(key, entry)
    this.#usedBytes += sizeBytes
    entry.ready = fetchFile({ store: this.#store, disk: this.#disk, uri, sizeBytes, path }).catch((error: unknown) => {
      this.#forget(entry)
      throw error
    })
    return entry
  }

  /** Removes what is least recently used, not pinned and not among `kept` until `sizeBytes` more fit; false where what stays leaves too little. */
  async #makeRoom(sizeBytes: number, kept: ReadonlySet<string> = new Set()): Promise<boolean> {
    await this.#evictUntil(() => this.#fits(sizeBytes), kept)
    return this.#fits(sizeBytes)
  }

  /** Removes so many bytes of what is least recently used, not pinned and not among `kept`; false where there is none. */
  async #evict(sizeBytes: number, kept: ReadonlySet<string>): Promise<boolean> {
    const freed = await this.#evictUntil((freedBytes) => freedBytes >= sizeBytes, kept)
    return freed > 0
  }

  /** Returns the bytes of what it removed. */
  async #evictUntil(isEnough: (freedBytes: number) => boolean, kept: ReadonlySet<string>): Promise<number> {
    let freedBytes = 0
    for (const entry of this.#entries.values()) {
      if (isEnough(freedBytes)) break
      if (entry.pins > 0 || kept.has(entry.key)) continue
      await this.#remove(entry)
      freedBytes += entry.sizeBytes
    }
    return freedBytes
  }

  #fits(sizeBytes: number): boolean {
    return this.#usedBytes + sizeBytes <= this.#maxBytes
  }

  async #somethingReleased(timeUp: Promise<void>): Promise<void> {
    let wake = () => {}
    const released = new Promise<void>((resolve) => (wake = resolve))
    this.#waiting.add(wake)
    await Promise.race([released, timeUp])
    this.#waiting.delete(wake)
  }

  /** What its disk does not let go of stays for the next process to find: nobody who needs other files waits for that. */
  async #remove(entry: Entry): Promise<void> {
    this.#forget(entry)
    await this.#disk.remove(entry.path).catch(() => undefined)
  }

  #forget(entry: Entry): void {
    if (this.#entries.get(entry.key) !== entry) return
    this.#entries.delete(entry.key)
    this.#usedBytes -= entry.sizeBytes
    this.#wakeWaiting()
  }

  #release(entry: Entry): void {
    assert(entry.pins > 0, 'a pinned file is released once', { path: entry.path })
    entry.pins--
    if (entry.pins === 0) this.#wakeWaiting()
  }

  #wakeWaiting(): void {
    this.#releases++
    for (const wake of this.#waiting) wake()
  }
}

/** Releasing twice is the same as once. */
function pinnedFile(path: string, release: () => void): PinnedFile {
  let isReleased = false
  return {
    path,
    release() {
      if (isReleased) return
      isReleased = true
      release()
    },
  }
}

function isOwn({ uri }: FileObject): boolean {
  return schemeOf(uri) === 'file'
}

function keysOf(wanted: readonly Wanted[]): ReadonlySet<string> {
  return new Set(wanted.map(({ key }) => key))
}

function sumOf(sizes: Iterable<number>): number {
  let sum = 0
  for (const size of sizes) sum += size
  return sum
}

/** Waiting would not help. */
function requireFit(files: readonly FileObject[], maxBytes: number): void {
  const sizeBytes = sumOf(new Map(files.map((file) => [file.uri, file.sizeBytes])).values())
  if (sizeBytes <= maxBytes) return
  throw new MoonlinkError(
    'invalid',
    'CACHE_TOO_SMALL',
    `${nameOf(files)} ${files.length === 1 ? 'has' : 'have'} ${sizeBytes} bytes, and the file cache may hold ${maxBytes}: raise its limit (cache.limitBytes) to at least ${sizeBytes}.`,
    { context: { uri: files[0].uri, sizeBytes, maxBytes } },
  )
}

function nameOf(files: readonly FileObject[]): string {
  return files.length === 1 ? files[0].uri : `${files.length} files (${files[0].uri}, …)`
}

function isDiskFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '')
}

function diskFull(uri: string, sizeBytes: number, directory: string, cause: unknown): MoonlinkError {
  return new MoonlinkError(
    'retry',
    'CACHE_DISK_FULL',
    `no room for a local copy of ${uri} (${sizeBytes} bytes): the disk of the file cache, ${directory}, is full; free space there, or keep the cache (stateDir) on a larger disk.`,
    { context: { uri, sizeBytes, directory }, cause },
  )
}

function busy(files: readonly FileObject[], sizeBytes: number, maxBytes: number): MoonlinkError {
  return new MoonlinkError(
    'retry',
    'CACHE_BUSY',
    `no room for ${nameOf(files)} (${sizeBytes} bytes) in the file cache: running reads hold its ${maxBytes} bytes; raise its limit (cache.limitBytes), or read less at once.`,
    { context: { uri: files[0].uri, sizeBytes, maxBytes } },
  )
}
