import { expect, test } from 'vitest'
import { loadConfig } from '../config/load.ts'
import { whatToTry } from './hints.ts'

function hints(
  over: { source?: string; token?: string; tables?: string[]; url?: string; environment?: Record<string, string> } = {},
): string[] {
  const flags = { warehouse: '/data', http: { token: over.token }, ...(over.source === undefined ? {} : { source: { url: over.source } }) }
  const { config } = loadConfig({ environment: {}, flags, workingDirectory: '/' })
  return whatToTry({ config, tables: over.tables ?? [], url: over.url ?? 'http://127.0.0.1:3030', environment: over.environment ?? {} })
}
const source = 'postgres://u@h/d'

test('the hints are commands that work where this runs', () => {
  const query = '"SELECT status, count(*) FROM shop.orders GROUP BY ALL"'
  expect(hints()).toEqual([
    `try in another terminal:  moonlink query ${query}`,
    `read it elsewhere:        DuckDB: SELECT count(*) FROM iceberg_scan('/data/shop/orders')`,
  ])
  const fromScript = { npm_lifecycle_event: 'start' }
  expect(hints({ environment: fromScript })[0]).toBe(`try in another terminal:  npx -y pnpm@12 moonlink query ${query}`)
  expect(hints({ url: 'http://127.0.0.1:4040' })[0]).toMatch(/ --url http:\/\/127.0.0.1:4040$/)
  expect(hints({ url: 'http://127.0.0.1:4040', environment: { MOONLINK_URL: 'http://127.0.0.1:4040' } })[0]).not.toContain('--url')
  expect(hints({ url: 'http://0.0.0.0:4040', token: 'not-to-be-shown' })[0]).toBe(
    `try in another terminal:  MOONLINK_TOKEN=… moonlink query ${query} --url http://127.0.0.1:4040`,
  )
})

test('names are quoted for SQL and for the shell, and no table is no dead end', () => {
  expect(hints({ source, tables: ['public.Big "$x"'] })[0]).toContain('query "SELECT count(*) FROM public.\\"Big \\"\\"\\$x\\"\\"\\""')
  expect(hints({ source, tables: ["public.it's"] })[1]).toContain("iceberg_scan('/data/public/it~0027;s')")
  const [query, place] = hints({ source, tables: ['"a.b".c'] })
  expect(query).toContain('query "SELECT count(*) FROM \\"a.b\\".c"')
  expect(place).toContain("iceberg_scan('/data/a.b/c')")
  expect(hints({ source })).toEqual(['no table is mirrored yet; see them with: moonlink tables list'])
})
