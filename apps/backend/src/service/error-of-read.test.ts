import { MoonlinkError } from '@moonlink/core'
import { expect, test } from 'vitest'
import { errorOfRead } from './error-of-read.ts'

const missing = new MoonlinkError('invalid', 'OBJECT_NOT_FOUND', 'there is no object s3://lake/a.parquet.')
const lost = new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over; this one stops.')
const away = new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'it does not answer.')
const held = { check: () => Promise.resolve() }
const losing = (error: Error) => ({ check: () => Promise.reject(error) })

test('a read that finds a file gone says that another backend has taken over, where it has', async () => {
  const answer = { kind: 'retry', code: 'LEASE_LOST', message: expect.stringContaining('Repeat the read') as string }
  expect(await errorOfRead(missing, losing(lost))).toMatchObject(answer)
  expect(await errorOfRead(lost, held)).toMatchObject(answer)
  expect(await errorOfRead(missing, losing(away))).toMatchObject({ kind: 'retry', code: 'LEASE_UNCERTAIN' })
})

test('what is missing of the mirror that this backend runs is said as it is, and so is everything else', async () => {
  const other = new MoonlinkError('invalid', 'SQL_ERROR', 'there is no such column.')
  expect(await errorOfRead(missing, held)).toBe(missing)
  expect(await errorOfRead(missing, null)).toBe(missing)
  expect(await errorOfRead(other, losing(lost))).toBe(other)
})
