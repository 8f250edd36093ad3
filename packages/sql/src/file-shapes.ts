import type { DuckDBConnection } from '@duckdb/node-api'
import { quoteText } from './sql-text.ts'

export interface FileColumn {
  readonly name: string
  /** Iceberg field id; null in a file written without ids. */
  readonly fieldId: number | null
}

/** The top-level columns of a data file. Files of equal `key` have the same. */
export interface FileShape {
  readonly key: string
  readonly columns: readonly FileColumn[]
  /** False where DuckDB could not tell the columns apart by name, or takes one for a column of its own. */
  readonly hasPlainNames: boolean
}

export interface ShapedFile {
  readonly uri: string
  readonly path: string
}

/** Shapes are remembered up to this many; data files never change. */
const MAX_SHAPES = 50_000

const OWN_COLUMNS = new Set(['filename', 'file_row_number', 'file_index'])

/** Reads which columns data files have, once for each file. */
export class FileShapes {
  private readonly connection: DuckDBConnection
  private readonly shapes = new Map<string, FileShape>()

  constructor(connection: DuckDBConnection) {
    this.connection = connection
  }

  /** The shape of each file, in their order. */
  async of(files: readonly ShapedFile[]): Promise<readonly FileShape[]> {
    const unknown = files.filter((file) => !this.shapes.has(file.uri))
    if (unknown.length > 0) await this.read(unknown)
    const shapes = files.map((file) => this.shapes.get(file.uri)!)
    if (this.shapes.size > MAX_SHAPES) this.shapes.clear()
    return shapes
  }

  close(): void {
    this.connection.closeSync()
  }

  private async read(files: readonly ShapedFile[]): Promise<void> {
    const paths = files.map((file) => quoteText(file.path)).join(', ')
    const result = await this.connection.runAndReadAll(
      `SELECT file_name, name, coalesce(num_children, 0)::INTEGER, field_id::INTEGER FROM parquet_schema([${paths}])`,
    )
    const nodes = new Map<string, SchemaNode[]>()
    for (const [path, name, childCount, fieldId] of result.getRows()) {
      const known = nodes.get(path as string) ?? []
      known.push({ name: name as string, childCount: childCount as number, fieldId: fieldId as number | null })
      nodes.set(path as string, known)
    }
    for (const file of files) this.shapes.set(file.uri, shapeOf(nodes.get(file.path)!))
  }
}

interface SchemaNode {
  readonly name: string
  readonly childCount: number
  readonly fieldId: number | null
}

/** Nodes come as Parquet stores them: depth first, the root first. */
function shapeOf(nodes: readonly SchemaNode[]): FileShape {
  const columns: FileColumn[] = []
  let at = 1
  while (at < nodes.length) {
    const { name, fieldId } = nodes[at]
    columns.push({ name, fieldId })
    let open = 1
    while (open > 0) open += nodes[at++].childCount - 1
  }
  const names = columns.map((column) => column.name.toLowerCase())
  return {
    key: JSON.stringify(columns),
    columns,
    hasPlainNames: new Set(names).size === names.length && !names.some((name) => OWN_COLUMNS.has(name)),
  }
}
