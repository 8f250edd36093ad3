import { expect, test } from 'vitest'
import { requireCommitted } from './require-committed.ts'

const table = { schema: 'public', name: 't' }

test('a table that is paused short of the LSN is an error that names it, others are none', () => {
  const mirror = (state: 'streaming' | 'paused' | 'failed', committedLsn: bigint | null) => ({
    table,
    state,
    committedLsn,
    reason: 'PAUSED why',
  })
  const check = (state: 'streaming' | 'paused' | 'failed', committedLsn: bigint | null) => () =>
    requireCommitted(20n, [mirror(state, committedLsn)], new Map())
  expect(check('streaming', 10n)).not.toThrow()
  expect(check('paused', 20n)).not.toThrow()
  expect(check('paused', 10n)).toThrow('public.t is paused, its Iceberg table as of 0/A: PAUSED why')
  expect(check('failed', null)).toThrow('public.t is failed, its Iceberg table not there yet: PAUSED why')
  expect(() => requireCommitted(20n, [], new Map([['public.u', 'CORRUPT it']]))).toThrow('public.u is failed: CORRUPT it')
})
