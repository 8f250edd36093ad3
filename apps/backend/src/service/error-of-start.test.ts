import { MoonlinkError } from '@moonlink/core'
import { expect, test } from 'vitest'
import { errorOfStart } from './error-of-start.ts'

const gone = new MoonlinkError('conflict', 'TABLE_GONE', 'Iceberg table public.t was dropped')

test('a start ends by what it met, or by another backend that has taken over meanwhile', async () => {
  const lost = new MoonlinkError('fenced', 'LEASE_LOST', 'another backend has taken over')
  const away = new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'no answer')
  expect(await errorOfStart(gone, null)).toBe(gone)
  expect(await errorOfStart(gone, { check: () => Promise.resolve() })).toBe(gone)
  expect(await errorOfStart(gone, { check: () => Promise.reject(away) })).toBe(gone)
  expect(await errorOfStart(gone, { check: () => Promise.reject(lost) })).toBe(lost)
})
