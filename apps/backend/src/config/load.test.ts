import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { settingKeys } from './keys.ts'
import { loadConfig, type ConfigInputs } from './load.ts'
import { redactUrl } from './source-url.ts'

const root = mkdtempSync(join(tmpdir(), 'moonlink-config-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

function load(inputs: Partial<ConfigInputs> & { yaml?: string } = {}) {
  const workingDirectory = mkdtempSync(join(root, 'directory-'))
  if (inputs.yaml !== undefined) writeFileSync(join(workingDirectory, 'moonlink.yaml'), inputs.yaml)
  return loadConfig({ environment: {}, flags: {}, workingDirectory, ...inputs })
}

describe('precedence', () => {
  test('file, then environment, then flags', () => {
    const yaml = 'flush: {rows: 10, intervalMs: 2s, bytes: 1MiB}'
    const environment = { MOONLINK_FLUSH_ROWS: '20', MOONLINK_FLUSH_INTERVAL_MS: '3s' }
    const { config } = load({ yaml, environment, flags: { flush: { rows: 30 } } })
    expect(config.flush).toMatchObject({ rows: 30, intervalMs: 3000, bytes: 2 ** 20 })
  })

  test('a source in file or flag wins over DATABASE_URL, which wins over none', () => {
    const environment = { DATABASE_URL: 'postgres://a@env/db' }
    expect(load({ environment }).config.source.url).toBe('postgres://a@env/db')
    expect(load({ environment, yaml: 'source: {url: "postgres://a@file/db"}' }).config.source.url).toBe('postgres://a@file/db')
    const flags = { source: { url: 'postgres://a@flag/db' } }
    expect(load({ environment, yaml: 'source: {url: "postgres://a@file/db"}', flags }).config.source.url).toBe('postgres://a@flag/db')
  })

  test('PG* never makes a source', () => {
    expect(load({ environment: { PGHOST: 'db.example', PGUSER: 'alice', PGDATABASE: 'shop' } }).config.source.url).toBeUndefined()
  })

  test('lists and maps come from the environment too', () => {
    const environment = { MOONLINK_SOURCE_TABLES: 'public.a,public.b', MOONLINK_SOURCE_EXCLUDE_COLUMNS: '{"public.a":["x"]}' }
    const { source } = load({ environment }).config
    expect(source.tables).toEqual(['public.a', 'public.b'])
    expect(source.excludeColumns).toEqual({ 'public.a': ['x'] })
  })
})

describe('messages', () => {
  const message = (inputs: Parameters<typeof load>[0]) => {
    try {
      load(inputs)
    } catch (error) {
      return (error as Error).message
    }
    return 'no error'
  }

  test('an unknown key names the nearest known one', () => {
    expect(message({ yaml: 'flush: {intervallMs: 5s}' })).toMatch(
      /flush\.intervallMs \(.*moonlink\.yaml\): .*did you mean flush\.intervalMs\?/,
    )
    expect(message({ flags: { a: 'b' } })).toBe('a (a flag): there is no such setting')
    expect(message({ yaml: 'memory: {limit: 1GiB}' })).toContain('did you mean memory.limitBytes?')
    expect(message({ yaml: 'flsuh: {rows: 5}' })).toContain('did you mean flush?')
    expect(message({ yaml: 'tables: [public.a]' })).toContain('did you mean source.tables?')
  })

  test('nothing is named where no setting is near', () => {
    for (const yaml of ['flush: {size: 5}', 'flush: {banana: 5}', 'verify: {enabled: true}', 'parallelism: 4', 'catalog: {user: x}'])
      expect(message({ yaml })).toMatch(/there is no such setting$/)
    expect(load({ environment: { MOONLINK_PORT: 'tcp://10.0.0.1:80', MOONLINK_SERVICE_HOST: '10.0.0.1' } }).warnings).toEqual([
      'MOONLINK_PORT is no setting and is ignored',
      'MOONLINK_SERVICE_HOST is no setting and is ignored',
    ])
  })

  test('a flag is named, for an item in its list too', () => {
    const flagNames = new Map([
      ['source.tables', '--table'],
      ['flush.rows', '--set'],
    ])
    const flags = { source: { tables: ['orders'] }, flush: { rows: 'many' } }
    expect(message({ flags, flagNames })).toMatch(/source\.tables\.0 \(--table\): "orders" .*; flush\.rows \(--set\): "many" /)
    expect(message({ flags: { flsh: { rows: 1 } }, flagNames: new Map([['flsh.rows', '--set']]) })).toMatch(/^flsh \(--set\): .*flush\?$/)
    expect(message({ environment: { MOONLINK_SOURCE_TABLES: 'orders' } })).toContain('source.tables.0 (MOONLINK_SOURCE_TABLES): "orders"')
  })

  test('a wrong value names the key, its origin and what is allowed', () => {
    expect(message({ environment: { MOONLINK_FLUSH_INTERVAL_MS: 'soon' } })).toBe(
      'flush.intervalMs (MOONLINK_FLUSH_INTERVAL_MS): "soon" is not a time; write milliseconds (5000) or a number with ms, s, m, h, d (5s)',
    )
    expect(message({ yaml: 'memory: {limitBytes: lots}' })).toContain('is not a size')
    expect(message({ yaml: 'catalog: {kind: hive}' })).toContain('must be one of file, rest')
    expect(message({ yaml: 'catalog: {kind: rest}' })).toContain('catalog.uri: it is needed where catalog.kind is rest')
    expect(message({ yaml: 'source: {tables: [orders]}' })).toContain('write schema.name, as in public.orders')
    expect(message({ flags: { http: { listen: 'nowhere' } } })).toBe(
      'http.listen (a flag): "nowhere" must be host:port, such as 127.0.0.1:3030',
    )
    expect(message({ flags: { http: { listen: '127.0.0.1:99999' } } })).toContain('port of 65535 at most')
    expect(message({ flags: { warehouse: 's3://' } })).toContain('warehouse: "s3://" names no bucket')
  })

  test('a size or time that can do no good is refused with what it has to be', () => {
    expect(message({ flags: { memory: { limitBytes: '1' } } })).toBe('memory.limitBytes (a flag): "1" is too little: at least 16 MiB')
    expect(message({ yaml: 'flush: {intervalMs: 5}' })).toMatch(/flush\.intervalMs .*: 5 is too little: at least 100 ms$/)
    expect(message({ yaml: 'copy: {maxBytesPerSecond: 5}' })).toMatch(/: 5 is too little: at least 64 KiB, or 0$/)
    expect(message({ yaml: 'copy: {maxBytesPerSecond: 0}' })).toBe('no error')
    expect(message({ yaml: 'standby: {takeoverMs: 100d}' })).toMatch(/: "100d" is too much: 24 h at most$/)
  })

  test('settings that contradict each other are named together', () => {
    const copy = { connections: 4, parallelTables: 4 }
    expect(message({ flags: { copy, memory: { limitBytes: '16MiB' } } })).toMatch(
      /^copy\.connections: 4 connections for 4 tables .*32 MiB, more than memory\.limitBytes \(16 MiB\); .*copy\.parallelTables/,
    )
    expect(message({ flags: { copy, memory: { limitBytes: '32MiB' } } })).toBe('no error')
  })

  test('secrets stay out', () => {
    expect(message({ yaml: 'source: {url: "mysql://u:hunter2@h/d"}' })).not.toContain('hunter2')
    expect(message({ yaml: 'http: {token: short}' })).not.toContain('short"')
    for (const yaml of [
      'catalog: {headers: hunter2}',
      'catalog: {headers: {authorization: [hunter2]}}',
      'catalog: {uri: ["https://u:hunter2@h"]}',
      's3: [{secretAccessKey: hunter2}]',
      'source: postgres://u:hunter2@h/d',
      'telemetry: {otlpEndpoint: ["https://u:hunter2@h"]}',
      'source: {url: "postgres://u:hunter2@h/d"',
      'http: {token: hunter2]',
    ])
      expect(message({ yaml }), yaml).not.toMatch(/hunter2|no error/)
  })

  test('an address that others can reach needs a token', () => {
    expect(message({ flags: { http: { listen: '0.0.0.0:3030' } } })).toContain('http.token')
    expect(message({ flags: { http: { listen: '0.0.0.0:3030', token: 'long enough' } } })).toBe('no error')
  })

  test('every message is one line', () => {
    expect(message({ yaml: 'flush: [\n  a: }' })).not.toContain('\n')
    expect(message({ file: 'absent.yaml' })).toMatch(/absent\.yaml: there is no such file/)
  })
})

test('an unknown variable is a warning, since platforms set such', () => {
  expect(load({ environment: { MOONLINK_FLUSH_ROW: '1' } }).warnings[0]).toContain('did you mean MOONLINK_FLUSH_ROWS?')
})

test('every setting has a description and a variable of its own', () => {
  const keys = settingKeys()
  expect(keys.filter((setting) => setting.description === '')).toEqual([])
  expect(new Set(keys.map((setting) => setting.variable)).size).toBe(keys.length)
  expect(keys.find((setting) => setting.key === 'flush.intervalMs')).toMatchObject({ fallback: '5s', type: 'time' })
})

test('a URL is shown without its password', () => {
  expect(redactUrl('postgres://al:s3cret@h:1/d?sslmode=require&password=s3cret')).toBe('postgres://al@h:1/d?sslmode=require')
  expect(redactUrl('postgres://al:s3cret@/d?host=/run')).toBe('postgres://al@/d?host=%2Frun')
})

test('a standby needs the log in the object store, and patience', () => {
  const load = (environment: Record<string, string>) => () => loadConfig({ environment, flags: {}, workingDirectory: '/tmp' })
  expect(load({ MOONLINK_STANDBY_ENABLED: 'true' })).toThrow(/^standby\.enabled: .*set changeLog\.kind to store/)
  expect(load({ MOONLINK_STANDBY_TAKEOVER_MS: '2s' })).toThrow(/^standby\.takeoverMs: must be at least .*\(3 s\)/)
  expect(load({ MOONLINK_STANDBY_ENABLED: 'true', MOONLINK_CHANGE_LOG_KIND: 'store' })().config.standby.enabled).toBe(true)
})
