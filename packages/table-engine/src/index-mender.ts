import { isMoonlinkError, type DataFile, type Logger, type Telemetry } from '@moonlink/core'
import type { SealedKeyIndex } from '@moonlink/pk-index'
import type { Identity } from './identity.ts'
import type { PatientReads } from './patient-reads.ts'
import type { SealedFiles } from './sealed-files.ts'

export interface IndexMenderOptions {
  readonly sealedFiles: SealedFiles
  readonly table: string
  readonly logger: Logger
  readonly telemetry: Telemetry
}

/** Whatever goes by the sealed index of a data file. */
export interface Indexed {
  readonly file: DataFile
  index: SealedKeyIndex | null
}

/** The state of a mirror, as far as its sealed indexes go. */
export interface IndexedState {
  readonly identity: Identity
  readonly reads: PatientReads
  files(): Iterable<Indexed>
}

/** Makes damaged key indexes anew from the rows of their files, so that a flipped bit on the local disk costs no table its mirror. */
export class IndexMender {
  private readonly options: IndexMenderOptions

  constructor(options: IndexMenderOptions) {
    this.options = options
  }

  /**
   * Does `work`, which reads indexes of the state's files or of `others`, and may begin anew until it has changed something: where one is found damaged, it does once that is
   * mended. Nobody else may use those indexes meanwhile. Throws what reading the file's rows and writing its index throw.
   */
  async with<T>(state: IndexedState, work: () => T | Promise<T>, others: readonly Indexed[] = []): Promise<T> {
    for (;;) {
      try {
        return await work()
      } catch (error) {
        const damaged = damagedAmong([...others, ...state.files()], error)
        if (damaged === undefined) throw error
        await this.mend(state, damaged, String(error))
      }
    }
  }

  private async mend(state: IndexedState, damaged: Indexed, error: string): Promise<void> {
    const { logger, sealedFiles, table, telemetry } = this.options
    logger.warn('a key index is damaged, and made anew from its data file', { table, file: damaged.file.path, error })
    telemetry.count('moonlink_errors_total', 1, { where: 'index', kind: 'corrupt', code: 'INDEX_CORRUPT' })
    const before = damaged.index!
    damaged.index = await sealedFiles.remake(damaged.file, state.identity, state.reads)
    before.close()
  }
}

function damagedAmong(indexed: readonly Indexed[], error: unknown): Indexed | undefined {
  if (!isMoonlinkError(error, 'corrupt') || error.code !== 'INDEX_CORRUPT') return undefined
  return indexed.find(({ index }) => index?.path === error.context['path'])
}
