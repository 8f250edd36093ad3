import type { Clock, ColumnBatch, DataFile, Field, Logger, ScannedBatch, TableStorage } from '@moonlink/core'
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
 * a change can be neither applied nor left out, so the stream waits, and a store that is away for a while costs no table its mirror.
 */
export class PatientReads implements Pick<TableStorage, 'fetchRows' | 'scanFile'> {
  private readonly storage: PatientReadsOptions['storage']
  private readonly patience: Patience

  constructor({ clock, isEnding, logger, storage, table }: PatientReadsOptions) {
    this.storage = storage
    this.patience = new Patience({
      clock,
      isEnding,
      onWait: ({ code, message }) =>
        logger.warn('what changes need could not be read; changes wait until it can be', { table, code, error: message }),
    })
  }

  /** Any reading that may begin anew. */
  patiently<T>(work: () => Promise<T>): Promise<T> {
    return this.patience.with(work)
  }

  fetchRows(file: DataFile, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch> {
    return this.patience.with(() => this.storage.fetchRows(file, positions, fields))
  }

  async *scanFile(file: DataFile, fields: readonly Field[], options?: { readonly lineage?: boolean }): AsyncGenerator<ScannedBatch> {
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
  }
}
