import type { Field } from '@moonlink/core'
import { expect } from 'vitest'
import type { Fixture } from './fixture.ts'
import type { Row } from './model-table.ts'

export const fields: readonly Field[] = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'note', type: { kind: 'string' }, required: false },
]
export const people = { schema: 'public', name: 'people' }

/** Rows of `people`. */
export function numbered(from: number, to: number): Row[] {
  return Array.from({ length: to - from }, (_, index) => [BigInt(from + index), `note of row ${from + index}`])
}

/** Closes it; nothing may be held any more. */
export async function closeReleased(fixture: Fixture): Promise<void> {
  expect(fixture.leases.held).toBe(0)
  expect(fixture.files.pinned).toBe(0)
  await fixture.close()
}
