import { expect, test } from 'vitest'
import { parseDdlMessage } from './ddl-message.ts'
import { DDL_VERSION } from './told-since.ts'

test('what triggers of this version wrote is read, and what nobody of ours wrote is left alone', () => {
  const message = { version: DDL_VERSION, kind: 'dropped', oid: 16_384 }
  expect(parseDdlMessage(JSON.stringify(message))).toEqual(message)
  // They tell the same, and less.
  expect(parseDdlMessage(JSON.stringify({ ...message, version: 3 }))).toEqual({ ...message, version: 3 })
  for (const text of ['', 'garbage', 'null', '7', '{}', '{"version":"9","kind":"shape"}', `{"version":${DDL_VERSION},"kind":"shape"}`])
    expect(parseDdlMessage(text), text).toBeNull()
})

test('a change that triggers of another version tell of is not passed over', () => {
  const later = { version: DDL_VERSION + 1, kind: 'partitioned', relation: [] }
  expect(parseDdlMessage(JSON.stringify(later))).toMatchObject({
    kind: 'unknown',
    reason: expect.stringMatching(/run moonlink ddl install again/) as string,
  })
})
