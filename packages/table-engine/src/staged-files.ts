import { join } from 'node:path'
import type { Clock, FileGroup, FileLedger, LocalDisk, Logger, StagedFile, TableStorage } from '@moonlink/core'
import { PathJournal } from './path-journal.ts'

const JOURNAL_FILE = 'staged'
/** What commits write and drop, a group as JSON in the place of a path. */
const GROUPS_FILE = 'staged-groups'
/** What was removed once. */
const REMOVED_FILE = 'staged-removed'
/** The list as one JSON array, as earlier versions kept it. */
const FORMER_FILE = 'staged.json'

/** Whether a local file keeps such lists. */
export function isStagedList(file: string): boolean {
  return file.startsWith(JOURNAL_FILE)
}

type Removal = Pick<TableStorage, 'discard' | 'unneeded'>

export interface StagedFilesOptions {
  readonly disk: LocalDisk
  readonly directory: string
  readonly clock: Clock
  readonly logger: Logger
  /** As in `EngineLimits`. */
  readonly lateWriteMs: number
}

/**
 * The files of one mirror that are written, or about to be, and that may be in no snapshot: data files until a commit takes them, whatever else commits
 * write, and what expired snapshots leave. They are listed on local disk before there is anything of them, so that what a crash leaves behind is removed by the
 * next process. A store may carry out a write that was given up once its file was removed: what was removed stays listed for `lateWriteMs`, and is removed once
 * more then. Where that disk is full or fails, whatever needs a file fails with `retry` (`STATE_FULL`, `STATE_FAILED`). A lost list costs space in the
 * warehouse, nothing else.
 */
export class StagedFiles implements FileLedger {
  private readonly options: StagedFilesOptions
  private readonly journal: PathJournal
  private readonly groups: PathJournal
  private readonly removedOnce: PathJournal
  private storage: Removal | null = null
  /** How files of this table are removed; null where it was not opened here. */
  private remove: ((paths: readonly string[]) => Promise<void>) | null = null
  /** Of what was removed once. */
  private removing: Promise<void> | null = null
  /** Of what an earlier process left. */
  private loading: Promise<void> | null = null
  /** Files that no commit will take. */
  private readonly abandoned = new Set<string>()
  /** The same, but a commit that named them was tried, and its outcome may be unknown. */
  private readonly doubtful = new Set<string>()
  /** When each was removed, as far as this process knows; in that order. */
  private readonly removedAtMs = new Map<string, number>()

  constructor(options: StagedFilesOptions) {
    const { directory, disk, logger } = options
    this.options = options
    this.journal = new PathJournal(disk, join(directory, JOURNAL_FILE), logger)
    this.groups = new PathJournal(disk, join(directory, GROUPS_FILE), logger)
    this.removedOnce = new PathJournal(disk, join(directory, REMOVED_FILE), logger)
  }

  /** Finds what an earlier process left and no snapshot has, be it an older one; `wanted` are files that a commit may still take. */
  async open(storage: Removal, wanted: readonly string[] = []): Promise<void> {
    const { journal } = this
    this.storage = storage
    this.remove = (paths) => storage.discard(paths)
    await this.load()
    const listed = [...journal.paths].filter((path) => !this.removedAtMs.has(path))
    const left = new Set(listed.length === 0 ? [] : await storage.unneeded([{ paths: listed, manifestLists: [] }]))
    const kept = new Set(wanted)
    // What was believed of them before, where the table was open here already: a commit that was given up may have landed since.
    this.abandoned.clear()
    this.doubtful.clear()
    for (const path of left) if (!kept.has(path)) this.doubtful.add(path)
    // At once: later a snapshot that has one may have gone, with the file, or only the snapshot.
    await journal.remove(listed.filter((path) => !left.has(path)))
  }

  async list(group: FileGroup): Promise<void> {
    await this.load()
    await this.groups.add(JSON.stringify(group))
  }

  async removed(paths: readonly string[]): Promise<void> {
    const gone = new Set(paths)
    for (const [text, group] of this.listedGroups()) {
      const left = group.paths.filter((path) => !gone.has(path))
      if (left.length === group.paths.length) continue
      try {
        if (left.length > 0) await this.groups.add(JSON.stringify({ ...group, paths: left }))
      } catch {
        // As it is listed, it is looked at again with the next commit: what is gone is fine to remove again.
        continue
      }
      await this.groups.remove([text])
    }
  }

  /** Writes a data file, listed before there is anything of it; one that could not be written is abandoned. */
  async write(writeFile: (onPath: (path: string) => Promise<void>) => Promise<StagedFile>): Promise<StagedFile> {
    let begun: string | null = null
    try {
      return await writeFile(async (path) => {
        await this.journal.add(path)
        begun = path
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

  /** A commit succeeded: no earlier one can still land, and of what all of them wrote it is known what counts. */
  async settleDoubts(): Promise<void> {
    for (const path of this.doubtful) this.abandoned.add(path)
    this.doubtful.clear()
    const groups = this.listedGroups()
    if (groups.length === 0) return
    try {
      for (const path of await this.storage!.unneeded(groups.map(([, group]) => group))) {
        this.abandoned.add(path)
        await this.journal.add(path)
      }
    } catch (error) {
      this.options.logger.warn('it is not known which files commits left behind; looked for again with the next', { error: String(error) })
      return
    }
    await this.groups.remove(groups.map(([text]) => text))
  }

  /** Removes what was abandoned and nobody reads. Another owner may have come since: no commit that still can land names any of it, theirs least of all. */
  async removeAbandoned(inUse: ReadonlySet<string>): Promise<void> {
    const paths = [...this.abandoned].filter((path) => !inUse.has(path))
    if (paths.length === 0) return
    try {
      await this.storage!.discard(paths)
      await this.remember(paths)
    } catch (error) {
      this.options.logger.warn('files of an abandoned transaction were not removed; tried again later', {
        files: paths.length,
        error: String(error),
      })
    }
  }

  /** Removes all that is listed: its table is there no more, and nobody reads it. */
  async removeAll(remove: (path: string) => Promise<void>): Promise<void> {
    this.remove = (paths) => inTurn(paths, remove)
    await this.load()
    const groups = this.listedGroups()
    const paths = [...new Set([...this.journal.paths, ...groups.flatMap(([, { paths }]) => paths), ...this.removedOnce.paths])]
    await inTurn(paths, remove)
    if (await this.remember(paths)) await this.groups.remove(groups.map(([text]) => text))
  }

  /** Removes once more what was removed long enough ago; call it every 100 ms or so. Never waits for it. */
  tick(): void {
    const [firstAtMs] = this.removedAtMs.values()
    const { clock, lateWriteMs } = this.options
    if (this.remove === null || firstAtMs === undefined || firstAtMs + lateWriteMs > clock.nowMs()) return
    this.removing ??= this.removeAgain(this.remove).finally(() => (this.removing = null))
  }

  /** Resolves once nothing is being removed that `tick` began with. */
  async settled(): Promise<void> {
    await this.removing
  }

  private async removeAgain(remove: (paths: readonly string[]) => Promise<void>): Promise<void> {
    const { clock, lateWriteMs, logger } = this.options
    const dueMs = clock.nowMs() - lateWriteMs
    const paths = [...this.removedAtMs].filter(([, atMs]) => atMs <= dueMs).map(([path]) => path)
    try {
      await remove(paths)
    } catch (error) {
      this.markRemoved(paths)
      logger.warn('files could not be removed once more; tried again later', { files: paths.length, error: String(error) })
      return
    }
    for (const path of paths) this.removedAtMs.delete(path)
    await this.removedOnce.remove(paths)
    await this.journal.remove(paths)
  }

  /** They were removed once. False where that could not be written down: the next process looks whether they are needed. */
  private async remember(paths: readonly string[]): Promise<boolean> {
    for (const path of paths) {
      this.abandoned.delete(path)
      this.doubtful.delete(path)
    }
    this.markRemoved(paths)
    try {
      await Promise.all(paths.map((path) => this.removedOnce.add(path)))
    } catch (error) {
      this.options.logger.warn('it could not be written down that files were removed', { files: paths.length, error: String(error) })
      return false
    }
    await this.journal.remove(paths)
    return true
  }

  private markRemoved(paths: readonly string[]): void {
    const nowMs = this.options.clock.nowMs()
    for (const path of paths) {
      this.removedAtMs.delete(path)
      this.removedAtMs.set(path, nowMs)
    }
  }

  private load(): Promise<void> {
    this.loading ??= this.loadLists()
    return this.loading
  }

  private async loadLists(): Promise<void> {
    await Promise.all([this.journal.load().then(() => this.takeFormer()), this.groups.load(), this.removedOnce.load()])
    this.markRemoved([...this.removedOnce.paths])
  }

  private listedGroups(): (readonly [string, FileGroup])[] {
    return [...this.groups.paths].flatMap((text) => {
      const group = groupIn(text)
      return group === null ? [] : [[text, group] as const]
    })
  }

  private async takeFormer(): Promise<void> {
    const { directory, disk } = this.options
    const former = join(directory, FORMER_FILE)
    const bytes = await disk.readFile(former).catch(() => null)
    if (bytes === null) return
    try {
      for (const path of pathsIn(bytes.toString())) await this.journal.add(path)
      await disk.remove(former)
    } catch (error) {
      this.options.logger.warn('the list of files not committed yet of an earlier version is left for the next start', {
        path: former,
        error: String(error),
      })
    }
  }
}

async function inTurn(paths: readonly string[], remove: (path: string) => Promise<void>): Promise<void> {
  for (const path of paths) await remove(path)
}

function pathsIn(json: string): string[] {
  try {
    const paths: unknown = JSON.parse(json)
    return Array.isArray(paths) ? paths.filter((path) => typeof path === 'string') : []
  } catch {
    return []
  }
}

function groupIn(json: string): FileGroup | null {
  try {
    const { manifestLists, paths } = JSON.parse(json) as Partial<Record<keyof FileGroup, unknown>>
    return areTexts(manifestLists) && areTexts(paths) ? { paths, manifestLists } : null
  } catch {
    return null
  }
}

function areTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((text) => typeof text === 'string')
}
