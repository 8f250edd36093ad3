import { join } from 'node:path'
import type { LocalDisk, Logger, StagedFile, TableStorage } from '@moonlink/core'

/**
 * The data files of one mirror that are written, or about to be, and that no commit has taken yet. Their paths are kept on local disk, so that what a
 * crash leaves behind is removed by the next process. A lost list costs space in the warehouse, nothing else.
 */
export class StagedFiles {
  private readonly place: { readonly disk: LocalDisk; readonly directory: string }
  private readonly storage: Pick<TableStorage, 'discard'>
  private readonly logger: Logger
  private listed = new Set<string>()
  /** Files that no commit will take. */
  private readonly abandoned = new Set<string>()
  /** The same, but a commit that named them was tried, and its outcome may be unknown. */
  private readonly doubtful = new Set<string>()
  private saving: Promise<void> = Promise.resolve()

  constructor(place: { readonly disk: LocalDisk; readonly directory: string }, storage: Pick<TableStorage, 'discard'>, logger: Logger) {
    this.place = place
    this.storage = storage
    this.logger = logger
  }

  /** Finds what an earlier process left and no snapshot has, be it an older one; `wanted` are files that a commit may still take. */
  async open(storage: Pick<TableStorage, 'snapshot' | 'retained' | 'loadSnapshot'>, wanted: readonly string[] = []): Promise<void> {
    this.listed = new Set(await this.read())
    const found = this.listed.size
    for (const { path } of storage.snapshot.files) this.listed.delete(path)
    for (const { snapshotId } of storage.retained()) {
      if (this.listed.size === 0) break
      for (const { path } of (await storage.loadSnapshot(snapshotId)).files) this.listed.delete(path)
    }
    const kept = new Set(wanted)
    for (const path of this.listed) if (!kept.has(path)) this.doubtful.add(path)
    // At once: later a snapshot that has one may have gone, with the file, or only the snapshot.
    if (this.listed.size < found) await this.save()
  }

  /** Writes a data file, listed before there is anything of it; one that could not be written is abandoned. */
  async write(writeFile: (onPath: (path: string) => Promise<void>) => Promise<StagedFile>): Promise<StagedFile> {
    let begun: string | null = null
    try {
      return await writeFile(async (path) => {
        begun = path
        this.listed.add(path)
        await this.save()
      })
    } catch (error) {
      if (begun !== null) this.abandon([begun])
      throw error
    }
  }

  /** A commit has taken them. */
  async take(paths: readonly string[]): Promise<void> {
    const had = paths.filter((path) => this.listed.delete(path))
    if (had.length > 0) await this.save()
  }

  /** No commit will take them. They stay until `removeAbandoned`; where one was tried, until another has succeeded. */
  abandon(paths: readonly string[], wasTried = false): void {
    for (const path of paths) (wasTried ? this.doubtful : this.abandoned).add(path)
  }

  /** A commit succeeded: no earlier one can still land. */
  settleDoubts(): void {
    for (const path of this.doubtful) this.abandoned.add(path)
    this.doubtful.clear()
  }

  /** Removes what was abandoned and nobody reads. */
  async removeAbandoned(inUse: ReadonlySet<string>): Promise<void> {
    const paths = [...this.abandoned].filter((path) => !inUse.has(path))
    if (paths.length === 0) return
    try {
      await this.storage.discard(paths)
      for (const path of paths) this.abandoned.delete(path)
      await this.take(paths)
    } catch (error) {
      this.logger.warn('files of an abandoned transaction were not removed; tried again later', {
        files: paths.length,
        error: String(error),
      })
    }
  }

  private get path(): string {
    return join(this.place.directory, 'staged.json')
  }

  private async read(): Promise<string[]> {
    try {
      const paths: unknown = JSON.parse((await this.place.disk.readFile(this.path)).toString())
      return Array.isArray(paths) ? paths.filter((path) => typeof path === 'string') : []
    } catch {
      return []
    }
  }

  /** One after another: the last one has all. */
  private save(): Promise<void> {
    this.saving = this.saving.then(() => this.writeList())
    return this.saving
  }

  private async writeList(): Promise<void> {
    const { disk, directory } = this.place
    try {
      if (this.listed.size === 0) return await disk.remove(this.path)
      await disk.makeDirectory(directory)
      const file = await disk.open(`${this.path}.tmp`, 'create')
      try {
        await file.write(Buffer.from(JSON.stringify([...this.listed])), 0)
      } finally {
        await file.close()
      }
      await disk.rename(`${this.path}.tmp`, this.path)
    } catch (error) {
      this.logger.warn('the list of files not committed yet could not be written', { path: this.path, error: String(error) })
    }
  }
}
