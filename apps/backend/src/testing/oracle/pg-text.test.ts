import { expect, test } from 'vitest'
import { arrayText, dateText, decimalText, float4Text, float8Text, moneyText, recordText, timestampText } from './pg-text.ts'

test('floats as Postgres prints them', () => {
  const texts = [
    '0',
    '-0',
    '0.1',
    '100000',
    '1e+06',
    '1.7447462e+06',
    '1.32127536e+08',
    '-1e-05',
    '0.0001',
    '1e-45',
    '3.4028235e+38',
    '1.6777216e+07',
  ]
  for (const text of texts) expect(float4Text(Math.fround(Number(text)))).toBe(text)
  const doubles = [
    '-0',
    '0.1',
    '123456789012345',
    '1e+15',
    '9.007199254740992e+15',
    '0.0001',
    '1e-05',
    '5e-324',
    '1.7976931348623157e+308',
    '0.30000000000000004',
  ]
  for (const text of doubles) expect(float8Text(Number(text))).toBe(text)
  expect(float8Text('NaN')).toBe('NaN')
})

test('dates, numbers and arrays as Postgres prints them', () => {
  expect([0, -1, 11_016, -719_163, 2_932_897, 2_145_042_905].map(dateText)).toEqual([
    '1970-01-01',
    '1969-12-31',
    '2000-02-29',
    '0001-12-31 BC',
    '10000-01-01',
    '5874897-12-31',
  ])
  expect(timestampText(-1n, '+00')).toBe('1969-12-31 23:59:59.999999+00')
  expect([decimalText(-5n, 2), decimalText(0n, 0), decimalText(12345n, 2)]).toEqual(['-0.05', '0', '123.45'])
  expect(
    arrayText([
      ['1', null],
      ['2', 'b c'],
    ]),
  ).toBe('{{1,NULL},{2,"b c"}}')
  expect(recordText(['a "street", \\', null, '', '{1,NULL}', '2'])).toBe('("a ""street"", \\\\",,"","{1,NULL}",2)')
  expect(['-92233720368547758.08', '0.05', '-123.00', '1000.00'].map(moneyText)).toEqual([
    '-$92,233,720,368,547,758.08',
    '$0.05',
    '-$123.00',
    '$1,000.00',
  ])
  expect(arrayText(['a', null, 'null', '', 'b c', '"\\', '{}'])).toBe('{a,NULL,"null","","b c","\\"\\\\","{}"}')
})
