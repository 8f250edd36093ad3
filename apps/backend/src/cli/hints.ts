import { parseTableName } from '@moonlink/core'
import { tableLocation } from '@moonlink/iceberg-writer'
import { fileUriToPath } from '@moonlink/object-store'
import type { Environment } from '../config/environment.ts'
import type { Config } from '../config/schema.ts'
import { defaultUrl } from './client.ts'

export interface HintInputs {
  readonly config: Pick<Config, 'source' | 'catalog' | 'http' | 'warehouse'>
  readonly tables: readonly string[]
  /** Of the API. */
  readonly url: string
  readonly environment: Environment
}

/** What a person may type next, to be copied as it is. */
export function whatToTry(inputs: HintInputs): string[] {
  const { config, environment } = inputs
  const url = inputs.url.replace(/^http:\/\/(0\.0\.0\.0|\[::\])/, 'http://127.0.0.1')
  const isDemo = config.source.url === undefined
  const table = isDemo ? 'shop.orders' : inputs.tables[0]
  const moonlink = `${config.http.token === undefined ? '' : 'MOONLINK_TOKEN=… '}${commandName(environment)}`
  const at = url === (environment['MOONLINK_URL'] ?? defaultUrl) ? '' : ` --url ${url}`
  if (table === undefined) return [`no table is mirrored yet; see them with: ${moonlink} tables list${at}`]
  const { schema, name } = parseTableName(table)
  const sql = isDemo ? 'SELECT status, count(*) FROM shop.orders GROUP BY ALL' : `SELECT count(*) FROM ${sqlName(schema, name)}`
  const query = `try in another terminal:  ${moonlink} query "${sql}"${at}`
  if (config.catalog.kind === 'rest' || config.warehouse === null) return [query, `read it elsewhere:        ${table} in the catalog`]
  const warehouse = config.warehouse.startsWith('file://') ? fileUriToPath(config.warehouse) : config.warehouse
  const place = tableLocation(warehouse, { namespace: schema, name })
  return [query, `read it elsewhere:        DuckDB: SELECT count(*) FROM iceberg_scan('${place.replaceAll("'", "''")}')`]
}

/** As the repository's README has it where a script of the repository runs this; the installed command elsewhere. */
function commandName(environment: Environment): string {
  return environment['npm_lifecycle_event'] === undefined ? 'moonlink' : 'npx -y pnpm@12 moonlink'
}

/** A table as a statement names it, within double quotes of a shell. */
function sqlName(schema: string, name: string): string {
  const quote = (text: string) => (/^[a-z_][a-z0-9_]*$/.test(text) ? text : `"${text.replaceAll('"', '""')}"`)
  return `${quote(schema)}.${quote(name)}`.replaceAll(/[$`"\\]/g, '\\$&')
}
