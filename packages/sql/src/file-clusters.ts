import type { DuckDBConnection } from '@duckdb/node-api'
import type { ShapedFile } from './file-shapes.ts'
import { quoteText } from './sql-text.ts'

/** Files are remembered up to this many; data files never change. */
const MAX_FILES = 50_000

/** Bounds are text; where both are numbers they are compared as such. */
const APART = `CASE WHEN try_cast(low AS DOUBLE) IS NOT NULL
  THEN try_cast(high AS DOUBLE) < try_cast(next_low AS DOUBLE) OR try_cast(next_high AS DOUBLE) < try_cast(low AS DOUBLE)
  ELSE high < next_low OR next_high < low END`

/** Knows which columns of a file a condition can leave out row groups by: those whose values hardly overlap from group to group. */
export class FileClusters {
  private readonly connection: DuckDBConnection
  private readonly columns = new Map<string, ReadonlySet<string>>()

  constructor(connection: DuckDBConnection) {
    this.connection = connection
  }

  /** For each file, in their order, the names of such columns. */
  async of(files: readonly ShapedFile[]): Promise<readonly ReadonlySet<string>[]> {
    if (this.columns.size > MAX_FILES) this.columns.clear()
    const unknown = files.filter((file) => !this.columns.has(file.uri))
    if (unknown.length > 0) await this.read(unknown)
    return files.map((file) => this.columns.get(file.uri)!)
  }

  close(): void {
    this.connection.closeSync()
  }

  private async read(files: readonly ShapedFile[]): Promise<void> {
    const paths = files.map((file) => quoteText(file.path)).join(', ')
    const result = await this.connection.runAndReadAll(`
      SELECT file_name, path_in_schema
      FROM (
        SELECT file_name, path_in_schema, stats_min_value AS low, stats_max_value AS high,
          lead(stats_min_value) OVER next AS next_low, lead(stats_max_value) OVER next AS next_high
        FROM parquet_metadata([${paths}])
        WINDOW next AS (PARTITION BY file_name, column_id ORDER BY row_group_id)
      )
      WHERE next_low IS NOT NULL
      GROUP BY ALL HAVING 2 * count(*) FILTER (${APART}) >= count(*)`)
    const found = new Map(files.map((file) => [file.path, new Set<string>()]))
    for (const [path, column] of result.getRows()) found.get(path as string)?.add(column as string)
    for (const file of files) this.columns.set(file.uri, found.get(file.path)!)
  }
}
