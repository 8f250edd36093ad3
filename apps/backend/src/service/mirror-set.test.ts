import { expect, test } from 'vitest'
import type { BackendParts } from './backend-parts.ts'
import type { LockedTables } from './locked-tables.ts'
import { MirrorSet } from './mirror-set.ts'
import type { Coverage } from './mirrors.ts'

test('a table without a mirror is told of by why it has none, and as unknown only where it is', () => {
  const reasons = new Map([['public.locked', 'its publication waits for a lock']])
  const parts = { engine: { mirror: () => undefined } } as unknown as BackendParts
  const locked = { reasons, has: (name: string) => reasons.has(name) } as unknown as LockedTables
  const mirrors = new MirrorSet(parts, {} as Coverage, locked)
  mirrors.unopened.set('public.damaged', 'FILE_CORRUPT its bytes are not those that were written')
  const trouble = (name: string) => {
    try {
      return mirrors.mirror(name)
    } catch (error) {
      return error
    }
  }
  expect(trouble('public.locked')).toMatchObject({
    kind: 'retry',
    code: 'TABLE_COPYING',
    message: expect.stringContaining('waits for a lock') as string,
  })
  expect(trouble('public.damaged')).toMatchObject({
    kind: 'invalid',
    code: 'TABLE_PAUSED',
    message: expect.stringContaining('FILE_CORRUPT') as string,
  })
  expect(trouble('public.looked')).toMatchObject({
    kind: 'invalid',
    code: 'TABLE_UNKNOWN',
    message: expect.stringContaining('public.locked') as string,
  })
})
