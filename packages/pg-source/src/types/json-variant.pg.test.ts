import { ColumnBuilder, valueAt } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { BadValueError } from './bad-value.ts'
import type { DecodeValue } from './decoder.ts'
import { binaryJsonbVariant, jsonVariant, textJsonbVariant } from './json-variant.ts'

const server = withPostgres()

const fitting = [
  `null`,
  ` true `,
  `""`,
  `"a \\" \\\\ \\/ \\b\\f\\n\\r\\t \\u001f \\u007f \\u00e9 \\ud83d\\ude00 é 😀"`,
  `[]`,
  `{}`,
  `{ "bb" : 1, "a":[ 1 ,2.50,{"c":null}] , "é":{}, "": 0 }`,
  `[1e2, 1.50e1, -0, -0.0, 0.10, 1E-3, 123e-5, 12345678901234567890123456789012345678, 9223372036854775808, -1e37, 1e-38]`,
  `{"10": 1, "9": 2, "a": 3, "B": 4, "aa": 5, "ä": 6, "z": 7}`,
  `"\\\\u0000"`,
]
const numbers = `SELECT to_jsonb(round(((random() - 0.5) * 10.0 ^ (random() * 60 - 20))::numeric, (random() * 30)::int)) FROM generate_series(1, 500)`
const unfit = [`1e38`, `1e400`, `[1e-39]`, `{"a": 123456789012345678901234567890.123456789}`]
/** What only json can hold. */
const onlyJson = [`{"a": 1, "a": 2}`, `[{"b": {"a": 1, "\\u0061": 1}}]`, `"\\u0000"`, `"\\ud800"`, `{"\\udc00\\ud800": 1}`]

function decode(decoder: DecodeValue, bytes: Buffer): unknown {
  const builder = new ColumnBuilder({ kind: 'variant' })
  try {
    decoder(bytes, 0, bytes.length, builder)
  } catch (error) {
    if (!(error instanceof BadValueError)) throw error
    expect(error.message).toContain('which a variant cannot hold: it has')
    return 'unfit'
  }
  return valueAt(builder.view(), 0)
}

test('json and jsonb become the text that Postgres prints for jsonb, or do not fit', async () => {
  const { client } = await server.createDatabase()
  const read = async (json: string, sql: string) =>
    (
      await client.query<{ json: Buffer; jsonb: string; sent: Buffer }>(
        `SELECT convert_to(j::text, 'UTF8') AS json, j::jsonb::text AS jsonb, jsonb_send(j::jsonb) AS sent FROM (${sql}) AS given(j)`,
        json === '' ? [] : [json],
      )
    ).rows
  const rows = await read('', numbers)
  for (const json of fitting) rows.push(...(await read(json, 'SELECT $1::json')))
  let fits = 0
  for (const { json, jsonb, sent } of rows) {
    const isLong = /^[-.\d]+$/.test(jsonb) && (/\.\d{39}/.test(jsonb) || jsonb.replaceAll(/^-?0*\.?0*|\D/g, '').length > 38)
    const expected = isLong ? 'unfit' : jsonb
    if (expected !== 'unfit') fits++
    expect(decode(jsonVariant, json), jsonb).toBe(expected)
    expect(decode(textJsonbVariant, Buffer.from(jsonb)), jsonb).toBe(expected)
    expect(decode(binaryJsonbVariant, sent), jsonb).toBe(expected)
  }
  expect(fits).toBeGreaterThan(300)
  for (const json of unfit) {
    const [row] = await read(json, 'SELECT $1::json')
    expect([decode(jsonVariant, row.json), decode(textJsonbVariant, Buffer.from(row.jsonb)), decode(binaryJsonbVariant, row.sent)]).toEqual(
      ['unfit', 'unfit', 'unfit'],
    )
  }
  for (const json of onlyJson) {
    await client.query('SELECT $1::json', [json])
    expect(decode(jsonVariant, Buffer.from(json)), json).toBe('unfit')
  }
})
