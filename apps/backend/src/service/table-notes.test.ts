import { expect, test } from 'vitest'
import type { ListedTable } from '../http/schemas.ts'
import { tableNotes } from './table-notes.ts'

const table = (name: string, over: Partial<ListedTable> = {}): ListedTable => ({
  name,
  mirrored: true,
  state: 'streaming',
  reason: null,
  notes: [],
  ...over,
})
const dropped = { mirrored: false, state: null }

test('a start tells where earlier commands differ from the tables that are named', () => {
  const listed = [
    table('public.named', { notes: ['column "x" is left out'] }),
    table('public.added'),
    table('public.gone', dropped),
    table('public.other', dropped),
  ]
  expect(tableNotes(listed, ['public.named', 'public.gone'])).toEqual([
    'public.named: column "x" is left out',
    'public.added: mirrored too, since moonlink tables add; moonlink tables drop public.added ends that',
    'public.gone: not mirrored, since moonlink tables drop; moonlink tables add public.gone takes it on again',
  ])
})

test('where all are mirrored, only what was dropped or has a reason of its own is not', () => {
  const listed = [table('public.a'), table('public.gone', dropped), table('public.odd', { ...dropped, reason: 'public.odd has no key' })]
  expect(tableNotes(listed, [])).toEqual([
    'public.gone: not mirrored, since moonlink tables drop; moonlink tables add public.gone takes it on again',
  ])
})
