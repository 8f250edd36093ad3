import { existsSync } from 'node:fs'
import { ColumnBuilder, valueAt, type Value } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { openPgSource } from '../session/source.ts'
import { readTables } from '../session/catalog-rows.ts'
import { defaultMapping, mapColumn, type MappedColumn } from './mapping.ts'
import { joinTypes } from './source-type.ts'

/** PostGIS and pgvector come with Debian's Postgres 15; without them these tests are skipped. */
const binDir = '/usr/lib/postgresql/15/bin'
const extensionDir = '/usr/share/postgresql/15/extension'
const has = (extension: string) => existsSync(`${binDir}/postgres`) && existsSync(`${extensionDir}/${extension}.control`)
const hasPostgis = has('postgis')
const hasVector = has('vector')
const server = hasPostgis || hasVector ? withPostgres({ binDir }) : null

const geometries = `VALUES ('POINT(1 2)'), ('SRID=4326;POINT(1.5 -2.25)'), ('SRID=4326;POLYGON((0 0,1 0,1 1,0 0))'), ('POINT ZM(1 2 3 4)'),
  ('GEOMETRYCOLLECTION EMPTY'), ('MULTILINESTRING((0 0,1 1),(2 2,3 3))'), ('POINT EMPTY')`
const geographies = `VALUES ('SRID=4326;POINT(1.5 -2.25)'), ('LINESTRING(-118 34,2 48)')`
const vectors = `VALUES ('[1,2.5,-3e-7]'), ('[0.1,1e10,3.4028235e38]')`

test.skipIf(!hasPostgis)('PostGIS: geometry and geography are their extended well-known binary', async () => {
  const [geometry, geography] = await forms('postgis', { geometry: geometries, geography: geographies })
  for (const { native, asText, rows } of [geometry, geography]) {
    for (const { text, binary } of rows) {
      expect(decode(asText, 'binary', binary)).toBe(text)
      expect(Buffer.from(decode(native, 'binary', binary) as Uint8Array)).toEqual(Buffer.from(text, 'hex'))
      expect(decode(native, 'text', Buffer.from(text))).toEqual(decode(native, 'binary', binary))
    }
  }
})

test.skipIf(!hasPostgis)('PostGIS: tables with geometry are copied and streamed in binary', async () => {
  const { client, connectionString } = await server!.createDatabase()
  await client.query(`CREATE EXTENSION postgis; CREATE TABLE places (id int PRIMARY KEY, at geometry(Point, 4326), area geography, parts geometry[]);
    INSERT INTO places VALUES (1, 'SRID=4326;POINT(1 2)', 'POINT(3 4)', ARRAY['POINT(5 6)'::geometry, NULL])`)
  const source = await openPgSource({ connection: connectionString })
  try {
    const table = { schema: 'public', name: 'places' }
    await source.prepare([table])
    const [listing] = await source.listTables([table])
    if (!listing.mirrorable) throw new Error(listing.reason)
    expect(listing.notes).toEqual([])
    const copy = await source.copy([{ table, schema: listing.schema }], new AbortController().signal)
    await copy.read(table, async (batch) => {
      const { rows } = await client.query<{ at: Buffer; area: Buffer; part: Buffer }>(
        `SELECT ST_AsEWKB(at) AS at, ST_AsEWKB(area::geometry) AS area, ST_AsEWKB(parts[1]) AS part FROM places`,
      )
      const [, at, area, parts] = batch.columns.map((column) => valueAt(column, 0)) as [Value, Uint8Array, Uint8Array, Value[]]
      expect(Buffer.from(at)).toEqual(rows[0].at)
      expect(Buffer.from(area)).toEqual(rows[0].area)
      expect([Buffer.from(parts[0] as Uint8Array), parts[1]]).toEqual([rows[0].part, null])
    })
    await copy.close()
  } finally {
    await source.uninstall()
    await source.close()
  }
})

test.skipIf(!hasVector)('pgvector: vectors are lists of floats', async () => {
  const [vector] = await forms('vector', { vector: vectors })
  for (const { text, binary } of vector.rows) {
    expect(decode(vector.asText, 'binary', binary)).toBe(text)
    expect(decode(vector.native, 'binary', binary)).toEqual((JSON.parse(text) as number[]).map(Math.fround))
    expect(decode(vector.native, 'text', Buffer.from(text))).toEqual(decode(vector.native, 'binary', binary))
  }
})

interface Forms {
  readonly native: MappedColumn
  readonly asText: MappedColumn
  readonly rows: readonly { readonly text: string; readonly binary: Buffer }[]
}

async function forms(extension: string, values: Readonly<Record<string, string>>): Promise<Forms[]> {
  const { client } = await server!.createDatabase()
  await client.query(`SET extra_float_digits = 3; CREATE EXTENSION ${extension}`)
  await client.query(
    `CREATE TABLE t (${Object.keys(values)
      .map((type) => `${type} ${type}`)
      .join(', ')})`,
  )
  const table = { schema: 'public', name: 't' }
  const query = async <T>(sql: string, parameters: readonly unknown[] = []) => (await client.query(sql, [...parameters])).rows as T[]
  const [relation] = await readTables({ rows: query }, [table])
  const typeOf = joinTypes(relation.types)
  const found: Forms[] = []
  for (const column of relation.columns) {
    const source = { ...column, type: typeOf(column.typeOid), required: false, isKey: false }
    const policy = { ...defaultMapping.policy, columns: { 'public.t': { [column.name]: { as: 'string' } } } }
    const rows = await query<{ text: string; binary: Buffer }>(
      `SELECT format('%s', v) AS text, ${column.name}_send(v) AS binary FROM (SELECT v::${column.name} FROM (${values[column.name]}) AS given(v)) AS typed`,
    )
    found.push({ native: mapColumn(table, source), asText: mapColumn(table, source, { ...defaultMapping, policy }), rows })
  }
  return found
}

function decode(column: MappedColumn, form: 'binary' | 'text', bytes: Buffer): Value {
  const builder = new ColumnBuilder(column.field.type)
  column.decoder[form](bytes, 0, bytes.length, builder)
  return valueAt(builder.view(), 0)
}
