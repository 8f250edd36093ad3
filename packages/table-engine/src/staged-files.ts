import { join } from 'node:path'
import type { LocalDisk, Logger, StagedFile, TableStorage } from '@moonlink/core'
import { PathJournal } from './path-journal.ts'

const JOURNAL_FILE = 'staged'
/** The list as one JSON array, as earlier versions kept it. */
const FORMER_FILE = 'staged.json'

/**
 * The data files of one mirror that are written, or about to be, and that no commit has taken yet. Their paths are kept on local disk, so that what a
 * crash leaves behind is removed by the next process. A lost list costs space in the warehouse, nothing else.
 */
export class StagedFiles {
  private readonly place: { readonly disk: LocalDisk; readonly directory: string }
  private readonly storage: Pick<TableStorage, 'discard'>
  private readonly logger: Logger
  private readonly journal: PathJournal
  /** Files that no commit will take. */
  private readonly abandoned = new Set<string>()
  /** The same, but a commit that named them was tried, and its outcome may be unknown. */
  private readonly doubtful = new Set<string>()

  constructor(place: { readonly disk: LocalDisk; readonly directory: string }, storage: Pick<TableStorage, 'discard'>, logger: Logger) {
    this.place = place
    this.storage = storage
    this.logger = logger
    this.journal = new PathJournal(place.disk, join(place.directory, JOURNAL_FILE), logger)
  }

  /** Finds what an earlier process left and no snapshot has, be it an older one; `wanted` are files that a commit may still take. */
  async open(storage: Pick<TableStorage, 'snapshot' | 'retained' | 'loadSnapshot'>, wanted: readonly string[] = []): Promise<void> {
    const { journal } = this
    await journal.load()
    await this.takeFormer()
    const listed = new Set(journal.paths)
    for (const { path } of storage.snapshot.files) listed.delete(path)
    for (const { snapshotId } of storage.retained()) {
      if (listed.size === 0) break
      for (const { path } of (await storage.loadSnapshot(snapshotId)).files) listed.delete(path)
    }
    const kept = new Set(wanted)
    for (const path of listed) if (!kept.has(path)) this.doubtful.add(path)
    // At once: later a snapshot that has one may have gone, with the file, or only the snapshot.
    await journal.remove([...journal.paths].filter((path) => !listed.has(path)))
  }

  /** Writes a data file, listed before there is anything of it; one that could not be written is abandoned. */
  async write(writeFile: (onPath: (path: string) => Promise<void>) => Promise<StagedFile>): Promise<StagedFile> {
    let begun: string | null = null
    try {
      return await writeFile(async (path) => {
        begun = path
        await this.journal.add(path)
      })
    } catch (error) {
      if (begun !== null) this.abandon([begun])
      throw error
    }
  }

  /** A commit has taken them. */
  async take(paths: readonly string[]): Promise<void> {
    for (const path of paths) {
      this.abandoned.delete(path)
      this.doubtful.delete(path)
    }
    await this.journal.remove(paths)
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
      await this.take(paths)
    } catch (error) {
      this.logger.warn('files of an abandoned transaction were not removed; tried again later', {
        files: paths.length,
        error: String(error),
      })
    }
  }

  private async takeFormer(): Promise<void> {
    const { directory, disk } = this.place
    const former = join(directory, FORMER_FILE)
    const bytes = await disk.readFile(former).catch(() => null)
    if (bytes === null) return
    for (const path of pathsIn(bytes.toString())) await this.journal.add(path)
    await disk.remove(former)
  }
}

function pathsIn(json: string): string[] {
  try {
    const paths: unknown = JSON.parse(json)
    return Array.isArray(paths) ? paths.filter((path) => typeof path === 'string') : []
  } catch {
    return []
  }
}
