import { expect, test } from 'vitest'
import { defaultSlotName } from './slot-name.ts'

test('a plain database name shows in the name of its slot', () => {
  expect(defaultSlotName('shop_2')).toBe('moonlink_shop_2')
})

test('names that differ only in what a slot name can not have are told apart', () => {
  const long = 'x'.repeat(60)
  const databases = ['a-b', 'a_b', 'a b', 'A_b', 'ä_b', `${long}1`, `${long}2`]
  const slots = databases.map(defaultSlotName)
  expect(new Set(slots).size).toBe(databases.length)
  for (const slot of slots) expect(slot).toMatch(/^moonlink_[a-z0-9_]{1,31}$/)
})
