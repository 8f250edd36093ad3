import {
  isMoonlinkError,
  type Clock,
  type ColumnBatch,
  type DataFile,
  type Field,
  type Logger,
  type ScannedBatch,
  type TableStorage,
} from '@moonlink/core'
import { RetryDelay } from './retry-delay.ts'

const POLL_MS = 50

export interface PatientReadsOptions {
  readonly storage: Pick<TableStorage, 'fetchRows' | 'scanFile'>
  readonly table: string
  readonly clock: Clock
  readonly logger: Logger
  /** True once nobody wants to wait any more: what fails then is thrown. */
  readonly isEnding: () => boolean
}

/**
 * Reads of data files for changes that are being applied: tried again, with growing pauses, for as long as the store does not answer. Such a change can be neither
 * applied nor left out, so the stream waits, and a store that is away for a while costs no table its mirror.
 */
export class PatientReads implements Pick<TableStorage, 'fetchRows' | 'scanFile'> {
  private readonly options: PatientReadsOptions
  private readonly delay = new RetryDelay()

  constructor(options: PatientReadsOptions) {
    this.options = options
  }

  async fetchRows(file: DataFile, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch> {
    for (;;) {
      try {
        const rows = await this.options.storage.fetchRows(file, positions, fields)
        this.delay.succeeded()
        return rows
      } catch (error) {
        await this.pauseAfter(error)
      }
    }
  }

  async *scanFile(file: DataFile, fields: readonly Field[], options?: { readonly lineage?: boolean }): AsyncGenerator<ScannedBatch> {
    for (let next = 0; ;) {
      try {
        for await (const batch of this.options.storage.scanFile(file, fields, options)) {
          if (batch.firstRow < next) continue
          next = batch.firstRow + batch.rows.length
          yield batch
        }
        this.delay.succeeded()
        return
      } catch (error) {
        await this.pauseAfter(error)
      }
    }
  }

  private async pauseAfter(error: unknown): Promise<void> {
    const { clock, isEnding, logger, table } = this.options
    if (!isMoonlinkError(error, 'retry') || isEnding()) throw error
    logger.warn('a data file could not be read; changes wait until it can be', { table, code: error.code, error: error.message })
    this.delay.failed(clock.nowMs())
    while (!this.delay.isOver(clock.nowMs())) {
      await clock.sleep(POLL_MS)
      if (isEnding()) throw error
    }
  }
}
