import { assert, type ColumnBatch, type Field, type KeptLineage, type RowsToWrite } from '@moonlink/core'
import { DEFAULT_COMPRESSION } from './encode.ts'
import { LINEAGE_FIELDS } from './lineage.ts'
import type { EncodedParquet, EncodeOptions, ParquetFileWriter } from './types.ts'
import { assembleFile } from './write/assemble.ts'
import type { EncodedRowGroup } from './write/row-group.ts'

/** A file whose parts are encoded beside each other, by `encode`. */
export class FileInParts implements ParquetFileWriter {
  recordCount = 0
  byteSize = 0
  private readonly fields: readonly Field[]
  private readonly options: EncodeOptions
  private readonly encode: (rows: RowsToWrite) => Promise<readonly EncodedRowGroup[]>
  /** In the order of the calls; empty while a part is being encoded. */
  private readonly parts: (readonly EncodedRowGroup[])[] = []
  private hasLineage = false

  constructor(fields: readonly Field[], options: EncodeOptions, encode: (rows: RowsToWrite) => Promise<readonly EncodedRowGroup[]>) {
    this.fields = fields
    this.options = options
    this.encode = encode
  }

  async append(rows: ColumnBatch, lineage?: KeptLineage): Promise<void> {
    assert(this.parts.length === 0 || this.hasLineage === (lineage !== undefined), 'all parts of a file keep lineage, or none does')
    this.hasLineage = lineage !== undefined
    const part = this.parts.push([]) - 1
    this.recordCount += rows.length
    const groups = await this.encode({ rows, rowIds: lineage?.rowIds ?? null, lastUpdated: lineage?.lastUpdated ?? null })
    this.parts[part] = groups
    for (const { bytes } of groups) this.byteSize += bytes.length
  }

  finish(): EncodedParquet {
    const fields = this.hasLineage ? [...this.fields, ...LINEAGE_FIELDS] : this.fields
    return assembleFile(this.parts.flat(), fields, this.options.compression ?? DEFAULT_COMPRESSION)
  }
}
