import type { Clock, ColumnBatch, DataFile, Field, Logger, ScannedBatch, TableStorage } from '@moonlink/core'
import { Outcomes, type Refusal } from './outcomes.ts'
import { Patience } from './patience.ts'

export interface PatientReadsOptions {
  readonly storage: Pick<TableStorage, 'fetchRows' | 'scanFile'>
  readonly table: string
  readonly clock: Clock
  readonly logger: Logger
  /** True once nobody wants to wait any more: what fails then is thrown. */
  readonly isEnding: () => boolean
}

/**
 * Reads of data files, and of their key indexes, for changes that are being applied: tried again, with growing pauses, for as long as the store or the disk does not answer. Such
 * a change can be neither applied nor left out, so the stream waits, and a store that is away for a while costs no table its mirror. One whose files alone can't be read is paused (`RefusedMirrors`).
 */
export class PatientReads implements Pick<TableStorage, 'fetchRows' | 'scanFile'> {
  private readonly storage: PatientReadsOptions['storage']
  private readonly patience: Patience
  private readonly outcomes = new Outcomes()

  constructor({ clock, isEnding, logger, storage, table }: PatientReadsOptions) {
    this.storage = storage
    this.patience = new Patience({
      clock,
      isEnding,
      onWait: (error) => {
        const { code, message } = error
        this.outcomes.failed(error, clock.nowMs())
        logger.warn('what changes need could not be read; changes wait until it can be', { table, code, error: message })
      },
    })
  }

  /** By what changes of all tables wait; null where they do not, or where it can't concern this table alone. */
  get refusal(): Refusal | null {
    const { refusal } = this.outcomes
    return refusal && { ...refusal, holdsOthers: true }
  }

  /** Any reading that may begin anew. */
  async patiently<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await this.patience.with(work)
    } finally {
      this.outcomes.over()
    }
  }

  fetchRows(file: DataFile, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch> {
    return this.patiently(() => this.storage.fetchRows(file, positions, fields))
  }

  async *scanFile(file: DataFile, fields: readonly Field[], options?: { readonly lineage?: boolean }): AsyncGenerator<ScannedBatch> {
    try {
      for (let next = 0; ;) {
        try {
          for await (const batch of this.storage.scanFile(file, fields, options)) {
            if (batch.firstRow < next) continue
            next = batch.firstRow + batch.rows.length
            yield batch
          }
          this.patience.succeeded()
          return
        } catch (error) {
          await this.patience.pauseAfter(error)
        }
      }
    } finally {
      this.outcomes.over()
    }
  }
}
