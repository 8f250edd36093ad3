import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bytesText, dateText, decimalText, intervalText, shortestFloat, timestampText, timeText } from './cell-text.ts'
import { withDuckdb } from './testing/duckdb.ts'

const duckdb = withDuckdb()

async function asDuckdb(expression: (value: bigint) => string, values: readonly bigint[]): Promise<string[]> {
  const result = await duckdb.connection.runAndReadAll(
    `SELECT unnest([${values.map((value) => `(${expression(value)})::VARCHAR`).join(', ')}])`,
  )
  return result.getRows().map(([text]) => (text as string).replace(/^(.*) \(BC\)(.*)$/, '$1$2 BC'))
}

describe('cell texts', () => {
  test('property: dates and timestamps are those of DuckDB, which prints them as Postgres does', async () => {
    const micros = fc.bigInt({ min: -200_000_000_000_000_000n, max: 250_000_000_000_000_000n })
    await fc.assert(
      fc.asyncProperty(fc.array(micros, { minLength: 50, maxLength: 50 }), async (values) => {
        expect(values.map((value) => timestampText(value, ''))).toEqual(await asDuckdb((value) => `make_timestamp(${value})`, values))
        const days = values.map((value) => value / 86_400_000_000n)
        expect(days.map((day) => dateText(Number(day)))).toEqual(await asDuckdb((day) => `DATE '1970-01-01' + (${day})::INTEGER`, days))
      }),
      { numRuns: 20 },
    )
  })

  test('at their edges', () => {
    expect(timestampText(-1n, '+00')).toBe('1969-12-31 23:59:59.999999+00')
    expect(timestampText(0n, '')).toBe('1970-01-01 00:00:00')
    expect(timestampText(-62_167_219_200_000_000n, '+00')).toBe('0001-01-01 00:00:00+00 BC')
    expect(timestampText(2n ** 63n - 1n, '+00')).toBe('infinity')
    expect(dateText(2_932_897)).toBe('10000-01-01')
    expect(timeText(86_400_000_000n)).toBe('24:00:00')
    expect([decimalText(-5n, 3), decimalText(0n, 2), decimalText(12_345n, 0), decimalText(12_345n, 2)]).toEqual([
      '-0.005',
      '0.00',
      '12345',
      '123.45',
    ])
    expect([intervalText(0, 0, 0n), intervalText(-14, 1, -1_500_000n), intervalText(1, -2, 0n)]).toEqual([
      '00:00:00',
      '-1 years -2 mons 1 day -00:00:01.5',
      '1 mon -2 days',
    ])
    const floats = [0.1, 16_777_216, 123_456_792, 3.4028235e38, 1e-40, 1e-45, 1.17549435e-38, -0.3]
    expect(floats.map((float) => shortestFloat(Math.fround(float)))).toEqual([
      0.1, 16_777_216, 123_456_790, 3.4028235e38, 1e-40, 1e-45, 1.1754944e-38, -0.3,
    ])
    expect([shortestFloat(-0), shortestFloat(NaN), shortestFloat(Infinity)]).toEqual([-0, NaN, Infinity])
    expect(bytesText(Uint8Array.of(0, 255))).toBe('\\x00ff')
  })
})
