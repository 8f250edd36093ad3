import type { Field } from '@moonlink/core'
import type { DuckDBConnection } from '@duckdb/node-api'
import type { ColumnShape } from './conform-sql.ts'
import { quoteName, quoteText } from './sql-text.ts'

/** The columns of a data file. Files of equal `key` have the same, in the same types. */
export interface FileShape {
  readonly key: string
  readonly columns: readonly ColumnShape[]
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
      `SELECT file_name, name, coalesce(num_children, 0)::INTEGER, field_id::INTEGER, concat_ws(' ', type, precision, scale), duckdb_type FROM parquet_schema([${paths}])`,
    )
    const nodes = new Map<string, SchemaNode[]>()
    for (const [path, name, childCount, fieldId, type, leafType] of result.getRows()) {
      const known = nodes.get(path as string) ?? []
      known.push({
        name: name as string,
        childCount: childCount as number,
        fieldId: fieldId as number | null,
        type: type as string,
        leafType: leafType as string | null,
      })
      nodes.set(path as string, known)
    }
    for (const file of files) this.shapes.set(file.uri, shapeOf(nodes.get(file.path)!))
  }
}

/** The field's column in files of this shape; null where they lack it. */
export function storedColumn(shape: FileShape, field: Field): ColumnShape | null {
  const byId = shape.columns.find((column) => column.fieldId === field.id)
  if (byId) return byId
  const hasIds = shape.columns.some((column) => column.fieldId !== null)
  return hasIds ? null : (shape.columns.find((column) => column.name === field.name) ?? null)
}

interface SchemaNode {
  readonly name: string
  readonly childCount: number
  readonly fieldId: number | null
  /** Physical type; of a decimal its digits too. */
  readonly type: string
  /** DuckDB's type of a node without children. */
  readonly leafType: string | null
}

/** Nodes come as Parquet stores them: depth first, the root first. */
function shapeOf(nodes: readonly SchemaNode[]): FileShape {
  let next = 0
  const read = (): ColumnShape => {
    const { name, childCount, fieldId, leafType } = nodes[next++]
    return { name, fieldId, type: leafType, parts: Array.from({ length: childCount }, read) }
  }
  const columns = read().parts.map(withoutRepetition)
  const names = columns.map((column) => column.name.toLowerCase())
  return {
    // One scan takes its types from its first file, so a promoted column is another shape.
    key: JSON.stringify([columns, nodes.map((node) => node.type)]),
    columns,
    hasPlainNames: new Set(names).size === names.length && !names.some((name) => OWN_COLUMNS.has(name)),
  }
}

/** A list's element is stored within a repeated group, which has no id. */
function withoutRepetition({ name, fieldId, parts: stored, type: leafType }: ColumnShape): ColumnShape {
  const [only] = stored
  const isList = stored.length === 1 && only.fieldId === null && only.parts.length === 1 && fieldId !== null
  const parts = (isList ? only.parts : stored).map(withoutRepetition)
  const struct = () => `STRUCT(${parts.map((part) => `${quoteName(part.name)} ${part.type}`).join(', ')})`
  return { name, fieldId, parts, type: parts.length === 0 ? leafType : isList ? `${parts[0].type}[]` : struct() }
}
