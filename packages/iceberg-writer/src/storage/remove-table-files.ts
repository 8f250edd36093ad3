import { isJsonObject, isMoonlinkError, parseJsonLossless, type JsonObject, type Logger, type ObjectStore } from '@moonlink/core'
import { objectsOf, textMapOf, textOf } from '../metadata/fields.ts'
import { acceptingBarePaths } from './bare-paths.ts'
import { readManifestList, readManifests } from './load-state.ts'
import { mapConcurrent } from './map-concurrent.ts'
import { EMPTY_STATE } from './table-state.ts'

const CONCURRENT_REMOVALS = 8

/** A table that is in no catalog any more. */
export interface RemovedTable {
  readonly uuid: string
  /** Of its last metadata, which names its files. */
  readonly metadataLocation: string
}

export interface RemoveTableFilesOptions {
  readonly store: ObjectStore
  readonly logger: Logger
  /** Called before each removal; what it throws ends the removing. */
  readonly beforeEach: () => Promise<void>
}

/**
 * Removes every file that a table's last metadata names, and no other one below its location, as of another table. What names files goes after them, the metadata last: where that is cut
 * off, the same call removes the rest; where the metadata is not there, or another table's, nothing is removed. Files of a table whose `gc.enabled` is false stay, as they may be others' too. One that is
 * damaged goes without what only it names, and the log says so.
 */
export async function removeTableFiles({ metadataLocation, uuid }: RemovedTable, options: RemoveTableFilesOptions): Promise<void> {
  const files = new TableFiles({ ...options, store: acceptingBarePaths(options.store) })
  const named = await files.read(metadataLocation, async (store) => namedBy(parsed(await store.get(metadataLocation), metadataLocation)))
  if (named === null || named.uuid !== uuid || !named.isOwn) return
  for (const snapshot of named.snapshots) await files.removeSnapshot(snapshot)
  await files.remove(named.others)
  await files.remove([metadataLocation])
}

function namedBy(metadata: JsonObject) {
  const statistics = ['statistics', 'partition-statistics'].flatMap((key) => objectsOf(metadata, key))
  const snapshots = objectsOf(metadata, 'snapshots')
  return {
    uuid: metadata['table-uuid'],
    isOwn: textMapOf(metadata, 'properties')['gc.enabled'] !== 'false',
    snapshots: snapshots.map((snapshot) => ({ snapshot, list: textOf(snapshot, 'manifest-list') })),
    others: [
      ...statistics.map((entry) => textOf(entry, 'statistics-path')),
      ...objectsOf(metadata, 'metadata-log').map((entry) => textOf(entry, 'metadata-file')),
    ],
  }
}

class TableFiles {
  private readonly options: RemoveTableFilesOptions
  /** Manifests that are removed, with what they name. */
  private readonly done = new Set<string>()

  constructor(options: RemoveTableFilesOptions) {
    this.options = options
  }

  /** Null where it is not there, or damaged. */
  async read<T>(path: string, read: (store: ObjectStore) => Promise<T>): Promise<T | null> {
    try {
      return await read(this.options.store)
    } catch (error) {
      if (isMoonlinkError(error) && error.code === 'OBJECT_NOT_FOUND') return null
      if (!isMoonlinkError(error, 'corrupt')) throw error
      this.options.logger.warn('a file of a table that is removed is damaged: files that only it names stay', {
        path,
        error: error.message,
      })
      return null
    }
  }

  async removeSnapshot({ list, snapshot }: { readonly list: string; readonly snapshot: JsonObject }): Promise<void> {
    const manifests = (await this.read(list, (store) => readManifestList(store, snapshot))) ?? []
    for (const manifest of manifests) {
      if (this.done.has(manifest.path)) continue
      const read = await this.read(manifest.path, (store) => readManifests(store, [manifest], EMPTY_STATE))
      await this.remove((read ?? []).flatMap(({ entries }) => entries.map(({ file }) => file.path)))
      await this.remove([manifest.path])
      this.done.add(manifest.path)
    }
    await this.remove([list])
  }

  async remove(paths: readonly string[]): Promise<void> {
    const { beforeEach, store } = this.options
    const failures: unknown[] = []
    await mapConcurrent(paths, CONCURRENT_REMOVALS, async (path) => {
      // None goes on behind a failure: the next attempt does.
      if (failures.length > 0) return
      try {
        await beforeEach()
        await store.delete(path)
      } catch (error) {
        failures.push(error)
      }
    })
    if (failures.length > 0) throw failures[0]
  }
}

function parsed(bytes: Uint8Array, uri: string): JsonObject {
  const metadata = parseJsonLossless(new TextDecoder().decode(bytes), uri)
  return isJsonObject(metadata) ? metadata : {}
}
