import { formatTableName, formatType, MoonlinkError, type SourceTable, type TableSchema } from '@moonlink/core'
import type { CatalogOptions, DescribedTable } from './catalog.ts'
import { evolveShape, isSameShape } from './evolve-shape.ts'

/** The table as the catalog has it, with the fields that are expected of it. Throws `conflict`/`PG_SCHEMA_CHANGED` where it has others. */
export function asExpected(
  now: DescribedTable,
  { schema, sourceState = null, table }: SourceTable,
  options: CatalogOptions,
): DescribedTable {
  const { mapped } = sourceState === null ? { mapped: now } : evolveShape(table, { schema, sourceState }, now.relation, options)
  if (isSameShape(mapped.schema, schema)) return { ...now, ...mapped }
  throw new MoonlinkError(
    'conflict',
    'PG_SCHEMA_CHANGED',
    `${formatTableName(table)} has changed its columns or key since it was listed. List it again before it is copied.`,
    { context: { table: formatTableName(table), now: describeSchema(mapped.schema), expected: describeSchema(schema) } },
  )
}

function describeSchema(schema: TableSchema): string {
  const fields = schema.fields.map((field) => `${field.id} ${field.name} ${formatType(field.type)}`)
  return `${fields.join(', ')}; key ${schema.identifierFieldIds.join(' ')}`
}
