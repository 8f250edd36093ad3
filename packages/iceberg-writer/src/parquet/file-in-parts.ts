import type { ColumnBatch, Field } from '@moonlink/core'
import { DEFAULT_COMPRESSION } from './encode.ts'
import type { EncodedParquet, EncodeOptions, ParquetFileWriter } from './types.ts'
import { assembleFile } from './write/assemble.ts'
import type { EncodedRowGroup } from './write/row-group.ts'

/** A file whose parts are encoded beside each other, by `encode`. */
export class FileInParts implements ParquetFileWriter {
  recordCount = 0
  byteSize = 0
  private readonly fields: readonly Field[]
  private readonly options: EncodeOptions
  private readonly encode: (rows: ColumnBatch) => Promise<readonly EncodedRowGroup[]>
  /** In the order of the calls; empty while a part is being encoded. */
  private readonly parts: (readonly EncodedRowGroup[])[] = []

  constructor(fields: readonly Field[], options: EncodeOptions, encode: (rows: ColumnBatch) => Promise<readonly EncodedRowGroup[]>) {
    this.fields = fields
    this.options = options
    this.encode = encode
  }

  async append(rows: ColumnBatch): Promise<void> {
    const part = this.parts.push([]) - 1
    this.recordCount += rows.length
    const groups = await this.encode(rows)
    this.parts[part] = groups
    for (const { bytes } of groups) this.byteSize += bytes.length
  }

  finish(): EncodedParquet {
    return assembleFile(this.parts.flat(), this.fields, this.options.compression ?? DEFAULT_COMPRESSION)
  }
}
