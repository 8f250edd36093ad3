import { MoonlinkError } from '@moonlink/core'
import { expect, test } from 'vitest'
import { mapLocalError, type Access } from './local-errors.ts'

const systemError = (code: string) => Object.assign(new Error(`${code}: as the system puts it`), { code, errno: -1, syscall: 'write' })

const cases: readonly (readonly [string, Access, string, string])[] = [
  ['ENOENT', 'read', 'invalid', 'OBJECT_NOT_FOUND'],
  ['ENOENT', 'write', 'retry', 'STORE_UNAVAILABLE'],
  ['ENOTDIR', 'read', 'invalid', 'OBJECT_NOT_FOUND'],
  ['EACCES', 'read', 'invalid', 'STORE_NOT_READABLE'],
  ['EACCES', 'write', 'invalid', 'STORE_NOT_WRITABLE'],
  ['EPERM', 'write', 'invalid', 'STORE_NOT_WRITABLE'],
  ['EROFS', 'write', 'invalid', 'STORE_NOT_WRITABLE'],
  ['ENOSPC', 'write', 'invalid', 'STORE_FULL'],
  ['EDQUOT', 'write', 'invalid', 'STORE_FULL'],
  ['EISDIR', 'write', 'invalid', 'STORE_NOT_WRITABLE'],
  ['EMFILE', 'read', 'retry', 'STORE_UNAVAILABLE'],
  ['EIO', 'write', 'retry', 'STORE_UNAVAILABLE'],
]

test.each(cases)('%s on %s is %s/%s', (errno, access, kind, code) => {
  const cause = systemError(errno)
  const mapped = mapLocalError(cause, access, 'file:///w/a', '/w/a')
  expect(mapped).toMatchObject({ kind, code, cause, message: expect.stringContaining('/w/a') })
})

test.each([
  ['EMFILE', 'ulimit -n'],
  ['ENFILE', 'fs.file-max'],
])('%s names the limit on open files', (errno, limit) => {
  const message = expect.stringContaining(limit) as string
  expect(mapLocalError(systemError(errno), 'read', 'file:///w/a', '/w/a')).toMatchObject({ code: 'STORE_UNAVAILABLE', message })
})

test('errors that are not the system’s pass as they are', () => {
  const ours = new MoonlinkError('invalid', 'URI_MALFORMED', 'no')
  expect(mapLocalError(ours, 'read', 'file:///a', '/a')).toBe(ours)
  const aborted = new DOMException('aborted', 'AbortError')
  expect(mapLocalError(aborted, 'read', 'file:///a', '/a')).toBe(aborted)
})
