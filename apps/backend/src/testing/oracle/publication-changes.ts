import type { SchemaChange } from './schema-change.ts'
import { publishedSql, quotedTable, SMALL } from './tables.ts'

/** What becomes of what is published of a table: no trigger tells of it, and no row before one that it lets through or leaves out. */
export const publicationChanges: readonly SchemaChange[] = [
  {
    name: 'publish other rows or columns',
    weight: 6,
    fits: (table) => table.published !== undefined && table.isAbsent !== true,
    make: (table, dice) => {
      const isOther = dice.chance(0.5)
      const small = table.columns.filter((column) => !table.key.includes(column) && SMALL.includes(column.type.sql))
      const hidden = small.length === 0 ? null : dice.pick(small)
      const columns = table.columns.map(({ isHidden, ...column }) => {
        const hides = isOther && small.some(({ name }) => name === column.name) ? column.name === hidden?.name : isHidden === true
        return hides ? { ...column, isHidden: true as const } : column
      })
      const shown = columns.filter((column) => !('isHidden' in column)).map(({ name }) => name)
      const key = table.key.map(({ name }) => columns.find((column) => column.name === name)!)
      const to = { ...table, columns, key, published: { columns: shown, filter: `keep > ${dice.between(-1, 1)}` } }
      const name = quotedTable(table)
      const sql = `ALTER PUBLICATION given DROP TABLE ${name}; ALTER PUBLICATION given ADD TABLE ${publishedSql(to)}`
      return { sql, to, isStale: false, untold: { kind: 'unseen' } }
    },
  },
]
