import { join } from 'node:path'
import {
  formatType,
  isMoonlinkError,
  joinBytes,
  MoonlinkError,
  systemDisk,
  type Column,
  type ColumnBatch,
  type Field,
  type FieldType,
  type LocalDisk,
  type LocalFiles,
  type PinnedFile,
  type TextCopies,
} from '@moonlink/core'
import type { ParquetWorkerPool } from './worker-pool.ts'

export interface VariantTextCopiesOptions {
  readonly localFiles: LocalFiles
  readonly parquet: Pick<ParquetWorkerPool, 'scan' | 'createFile'>
  /** Where the copies live; what is there is removed, since copies are made anew by each process. */
  readonly directory: string
  /** Where that is. Default: the system's. */
  readonly disk?: LocalDisk
  /** Copies that no read uses make room beyond so many bytes, the one that was used least recently first. */
  readonly maxBytes: number
}

interface Copy {
  readonly path: string
  sizeBytes: number
  pins: number
  /** Resolves once the file is whole. */
  ready: Promise<void>
}

/** Each copy that is being made is in memory as a whole. */
const MADE_AT_ONCE = 2

/** Local copies of Parquet files with variants as text (see `TextCopies`), at most two made at a time, so that two files' bytes are in memory. */
export class VariantTextCopies implements TextCopies {
  private readonly options: VariantTextCopiesOptions
  private readonly disk: LocalDisk
  /** By file and fields, the least recently used first. */
  private readonly copies = new Map<string, Copy>()
  private making = 0
  /** Copies that are to be made once others are, in order. */
  private readonly waiting: (() => void)[] = []
  private madeCount = 0
  private usedBytes = 0

  private constructor(options: VariantTextCopiesOptions) {
    this.options = options
    this.disk = options.disk ?? systemDisk
  }

  static async open(options: VariantTextCopiesOptions): Promise<VariantTextCopies> {
    const copies = new VariantTextCopies(options)
    await copies.disk.remove(options.directory)
    return copies
  }

  async pin(uri: string, sizeBytes: number, fields: readonly Field[]): Promise<PinnedFile> {
    const key = JSON.stringify([uri, fields.map(({ id, name, type }) => [id, name, formatType(type)])])
    const copy = this.copies.get(key) ?? this.begin(key, uri, sizeBytes, fields)
    copy.pins++
    this.copies.delete(key)
    this.copies.set(key, copy)
    try {
      await copy.ready
    } catch (error) {
      // The next pin tries again.
      if (this.copies.get(key) === copy) this.copies.delete(key)
      throw error
    }
    await this.makeRoom()
    let isReleased = false
    return {
      path: copy.path,
      release: () => {
        if (!isReleased) copy.pins--
        isReleased = true
      },
    }
  }

  private begin(key: string, uri: string, sizeBytes: number, fields: readonly Field[]): Copy {
    const copy: Copy = {
      path: join(this.options.directory, `${++this.madeCount}.parquet`),
      sizeBytes: 0,
      pins: 0,
      ready: Promise.resolve(),
    }
    copy.ready = this.inTurn(() => this.make(copy, uri, sizeBytes, fields))
    this.copies.set(key, copy)
    return copy
  }

  private async inTurn(make: () => Promise<void>): Promise<void> {
    // Whoever ends hands over its place, so that nobody new takes it.
    if (this.making < MADE_AT_ONCE) this.making++
    else await new Promise<void>((resolve) => this.waiting.push(resolve))
    try {
      await make()
    } finally {
      const next = this.waiting.shift()
      if (next === undefined) this.making--
      else next()
    }
  }

  private async make(copy: Copy, uri: string, sizeBytes: number, fields: readonly Field[]): Promise<void> {
    const { localFiles, parquet, directory } = this.options
    const pinned = await localFiles.pin(uri, sizeBytes)
    try {
      const writer = parquet.createFile(textFields(fields))
      for await (const { rows } of parquet.scan({ path: pinned.path }, { fields, lineage: null })) await writer.append(asText(rows))
      const bytes = joinBytes(writer.finish().bytes)
      await this.write(copy.path, bytes)
      copy.sizeBytes = bytes.length
      this.usedBytes += bytes.length
    } catch (error) {
      if (isMoonlinkError(error)) throw error
      const message = `a copy of ${uri} with its variants as text can't be written to ${directory}: ${String(error)}`
      throw new MoonlinkError('retry', 'VARIANT_COPY_FAILED', message, { context: { uri, directory }, cause: error })
    } finally {
      pinned.release()
    }
  }

  /** Under its own name once it is whole. */
  private async write(path: string, bytes: Uint8Array): Promise<void> {
    const { disk } = this
    await disk.makeDirectory(this.options.directory)
    const part = `${path}.part`
    const file = await disk.open(part, 'create')
    try {
      try {
        await file.write(bytes, 0)
      } finally {
        await file.close()
      }
      await disk.rename(part, path)
    } catch (error) {
      await disk.remove(part).catch(() => undefined)
      throw error
    }
  }

  private async makeRoom(): Promise<void> {
    for (const [key, copy] of this.copies) {
      if (this.usedBytes <= this.options.maxBytes) return
      if (copy.pins > 0) continue
      this.copies.delete(key)
      this.usedBytes -= copy.sizeBytes
      await this.disk.remove(copy.path)
    }
  }
}

function textFields(fields: readonly Field[]): Field[] {
  // Defaults are in the copy already, as far as older rows have them.
  return fields.map(({ id, name, type, required }) => ({ id, name, type: textType(type), required }))
}

function textType(type: FieldType): FieldType {
  if (type.kind === 'variant') return { kind: 'string' }
  if (type.kind === 'list') return { ...type, element: textType(type.element) }
  return type.kind === 'struct' ? { ...type, fields: textFields(type.fields) } : type
}

function asText({ fields, columns, length }: ColumnBatch): ColumnBatch {
  return { fields: textFields(fields), columns: columns.map(textColumn), length }
}

/** A variant's column holds its text. */
function textColumn(column: Column): Column {
  return { ...column, type: textType(column.type), children: column.children.map(textColumn) }
}
