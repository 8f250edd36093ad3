import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatType } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { readTables } from '../session/catalog-rows.ts'
import { mapColumn } from './mapping.ts'
import { joinTypes } from './source-type.ts'

const server = withPostgres()
const document = readFileSync(join(import.meta.dirname, '../../../../docs/TYPES.md'), 'utf8')

/** What docs/TYPES.md says that each built-in type becomes, by the names in its table. */
function documented(): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of document.split('\n').filter((text) => text.startsWith('| `'))) {
    const [, names, becomes] = line.split('|').map((cell) => cell.trim())
    const types = [...names.matchAll(/`([^`]+)`/g)].map(([, name]) => name)
    // `float, double` beside two names: one for each. Otherwise all become the same.
    const each = becomes.split(', ').length === types.length ? becomes.split(', ') : [becomes.replace(/ of up to.*/, '')]
    types.forEach((name, index) => found.set(name, (each[index] ?? each[0]).replace(/ \(.*| [¹²³⁴⁵⁶⁷]$/, '')))
  }
  return found
}

/** The documentation's words for what `formatType` prints. */
function asDocumented(type: string): string {
  return type.replace(/^list<(.*)>$/, 'list of $1')
}

/** Types made for the server's own catalogs, which a column can have all the same; docs/TYPES.md has them under its row for other types. */
const INTERNAL = /^(pg_node_tree|pg_ndistinct|pg_dependencies|pg_mcv_list|pg_brin_.*|gtsvector|aclitem)$/
/** Names that SQL has for them. */
const SQL_NAMES: Readonly<Record<string, string>> = { bpchar: 'char(n)', char: '"char"', numeric: 'numeric' }
const SPECIAL: Readonly<Record<string, string>> = { xid8: 'decimal(20, 0)', money: 'decimal(19, 2)', numeric: 'string' }

test('every type that the server has is what docs/TYPES.md says, and is in it', async () => {
  const { client } = await server.createDatabase()
  const { rows: types } = await client.query<{ name: string; kind: string; hasArray: boolean }>(
    `SELECT typname AS name, typtype AS kind, typarray <> 0 AS "hasArray" FROM pg_type
     WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm')
       AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = pg_type.oid) ORDER BY typname`,
  )
  expect(types.length).toBeGreaterThan(70)
  const columns = types.flatMap(({ name, hasArray }, index) => {
    const type = `pg_catalog."${name}"`
    return [`c${index} ${type}`, ...(hasArray ? [`a${index} ${type}[]`] : [])]
  })
  await client.query(`CREATE TABLE everything (${columns.join(', ')})`)
  const query = async <T>(sql: string, parameters: readonly unknown[]) => (await client.query(sql, [...parameters])).rows as T[]
  const table = { schema: 'public', name: 'everything' }
  const [relation] = await readTables({ rows: query }, [table])
  const typeOf = joinTypes(relation.types)
  const becomes = (name: string) => {
    const column = relation.columns.find((candidate) => candidate.name === name)!
    return formatType(mapColumn(table, { ...column, type: typeOf(column.typeOid), required: false, isKey: false }).field.type)
  }
  const said = documented()
  for (const [index, { name, kind, hasArray }] of types.entries()) {
    const documentedName = SQL_NAMES[name] ?? name
    const expected =
      SPECIAL[name] ?? (kind !== 'b' || INTERNAL.test(name) ? 'string' : name.startsWith('reg') ? 'long' : said.get(documentedName))
    expect(expected, `${name} is not in docs/TYPES.md`).toBeDefined()
    const type = becomes(`c${index}`)
    expect(asDocumented(type), name).toBe(expected)
    if (hasArray) expect(becomes(`a${index}`), `${name}[]`).toBe(`list<${type}>`)
  }
  // Those that the table has under their own names, with exceptions that are looked at above.
  for (const name of ['xid8', 'money', 'regclass', 'aclitem', 'numeric(p, s)']) expect(document).toContain(`\`${name}\``)
})
