import { columnByteSize, formatType, type Column, type DataFile, type Field, type TableStorage } from '@moonlink/core'

/** Values of some rows of a file: one column a field asked for, and where a row of the file is in them. */
export interface StoredRows {
  readonly columns: readonly Column[]
  readonly at: (row: number) => number
}

/** A file's columns are taken whole once this share of its rows was asked for. */
const WORTHWHILE_SHARE = 1 / 8
/** What a compressed byte takes in memory, about. */
const EXPANSION = 3
/** Files that were asked for rows and are remembered. */
const MAX_FILES = 4096

/**
 * Values of data files that rows in the making take over (unchanged TOAST). Updates come back to the same files batch after batch, and a page is
 * unpacked for each of its rows; so a file that many rows are asked of is kept whole, as far as there is room: the one used last stays longest.
 */
export class OldValues {
  private readonly maxBytes: number
  /** By path and field; the one used last is the last. */
  private readonly columns = new Map<string, Column>()
  private readonly asked = new Map<string, number>()
  private bytes = 0

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  get byteSize(): number {
    return this.bytes
  }

  /** Reads `positions` (ascending, distinct) of the file. */
  async fetch(
    storage: Pick<TableStorage, 'fetchRows'>,
    file: DataFile,
    positions: Uint32Array,
    fields: readonly Field[],
  ): Promise<StoredRows> {
    const held = fields.map((field) => this.use(keyOf(file, field)))
    if (held.every((column) => column !== undefined)) return { columns: held, at: (row) => row }
    if (this.asked.size > MAX_FILES) this.asked.clear()
    const asked = (this.asked.get(file.path) ?? 0) + positions.length
    this.asked.set(file.path, asked)
    if (asked < file.recordCount * WORTHWHILE_SHARE || file.sizeBytes * EXPANSION > this.maxBytes) {
      const { columns } = await storage.fetchRows(file, positions, fields)
      const at = new Map(Array.from(positions, (position, index) => [position, index]))
      return { columns, at: (row) => at.get(row)! }
    }
    const all = Uint32Array.from({ length: file.recordCount }, (_, row) => row)
    const { columns } = await storage.fetchRows(file, all, fields)
    fields.forEach((field, index) => this.keep(keyOf(file, field), columns[index]))
    return { columns, at: (row) => row }
  }

  /** Gives the memory back. */
  clear(): void {
    this.columns.clear()
    this.asked.clear()
    this.bytes = 0
  }

  private use(key: string): Column | undefined {
    const column = this.columns.get(key)
    if (column === undefined) return undefined
    this.columns.delete(key)
    this.columns.set(key, column)
    return column
  }

  private keep(key: string, column: Column): void {
    this.drop(key)
    this.columns.set(key, column)
    this.bytes += columnByteSize(column)
    for (const oldest of this.columns.keys()) {
      if (this.bytes <= this.maxBytes) break
      this.drop(oldest)
    }
  }

  private drop(key: string): void {
    const column = this.columns.get(key)
    if (column === undefined) return
    this.columns.delete(key)
    this.bytes -= columnByteSize(column)
  }
}

/** Where a column is widened, its values are read anew. */
function keyOf(file: DataFile, field: Field): string {
  return `${field.id} ${formatType(field.type)} ${file.path}`
}
