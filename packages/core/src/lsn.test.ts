import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatLsn, parseLsn } from './lsn.ts'

test('prints and reads every LSN as Postgres does', () => {
  expect(formatLsn(0x16_b374_d848n)).toBe('16/B374D848')
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (lsn) => parseLsn(formatLsn(lsn)) === lsn))
})

test.each(['', '1', '1/', '/1', '0x1/2', '1/2/3', '123456789/0', 'G/1'])('refuses "%s"', (text) => {
  expect(() => parseLsn(text)).toThrow('not an LSN')
})
