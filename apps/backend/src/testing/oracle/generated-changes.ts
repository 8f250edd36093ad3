import { added, alter, freeColumns, isComparable, isFree, isWhole, newColumn, replaced } from './changed-table.ts'
import type { Dice } from './dice.ts'
import type { SchemaChange } from './schema-change.ts'
import { quote, type OracleColumn, type OracleTable } from './tables.ts'
import { typeNamed } from './types.ts'
import { COMPARED } from './untold.ts'

/** SQL of an `int4` that is computed from columns of these types. */
const EXPRESSIONS: Readonly<Record<string, (name: string, factor: number) => string>> = {
  int2: (name, factor) => `coalesce(${name} % 100, -1) * ${factor}`,
  int4: (name, factor) => `(${name} % 100) * ${factor}`,
  text: (name, factor) => `length(${name}) + ${factor}`,
  'varchar(20)': (name, factor) => `length(${name}) * ${factor}`,
  boolean: (name, factor) => `CASE WHEN ${name} THEN ${factor} END`,
}

const sources = ({ columns }: OracleTable) => columns.filter(({ isGenerated, type }) => isGenerated !== true && type.sql in EXPRESSIONS)
const generated = (table: OracleTable) => freeColumns(table).filter(({ isGenerated }) => isGenerated === true)
/** Where whole rows name them, Postgres refuses changes of a table whose generated columns are not published. */
const canHave = (table: OracleTable) => isFree(table) && isComparable(table) && isWhole(table) && table.isGiven !== true
const hasOne = (table: OracleTable) => canHave(table) && generated(table).length > 0

function expression(table: OracleTable, dice: Dice): string {
  const { name, type } = dice.pick(sources(table))
  return EXPRESSIONS[type.sql](quote(name), dice.between(1, 5))
}

/** What becomes of stored generated columns, which are shown where the server publishes them. */
export const generatedChanges: readonly SchemaChange[] = [
  {
    name: 'add a generated column',
    weight: 2,
    fits: (table) => canHave(table) && sources(table).length > 0,
    make: (table, dice) => {
      const column: OracleColumn = {
        ...newColumn(table, dice, typeNamed('int4')),
        isGenerated: true,
        ...(table.sendsGenerated !== true && { isHidden: true }),
      }
      const sql = alter(table, `ADD ${quote(column.name)} int4 GENERATED ALWAYS AS (${expression(table, dice)}) STORED`)
      return { sql, to: added(table, column), isStale: true, untold: COMPARED }
    },
  },
  {
    // From Postgres 17 on.
    name: 'generate a column otherwise',
    weight: 3,
    fits: (table) => hasOne(table) && sources(table).length > 0,
    make: (table, dice) => {
      const column = dice.pick(generated(table))
      const sql = alter(table, `ALTER ${quote(column.name)} SET EXPRESSION AS (${expression(table, dice)})`)
      return { sql, to: table, isStale: true, untold: COMPARED }
    },
  },
  {
    name: 'generate a column no more',
    weight: 3,
    fits: hasOne,
    make: (table, dice) => {
      const column = dice.pick(generated(table))
      const { isGenerated: _generated, isHidden, ...plain } = column
      const sql = alter(table, `ALTER ${quote(column.name)} DROP EXPRESSION`)
      const wasHidden = isHidden === true
      return { sql, to: replaced(table, column, plain), isStale: wasHidden, untold: wasHidden ? COMPARED : { kind: 'nulls' } }
    },
  },
]
