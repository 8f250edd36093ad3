import { expect, test } from 'vitest'
import { notMirrored } from './not-mirrored.ts'

test('the mirrored table of the nearest name is named, and none where none is near', () => {
  const mirrored = ['shop.customers', 'shop.orders']
  expect(notMirrored('shop.order', mirrored).message).toBe(
    'shop.order is not mirrored; did you mean shop.orders? (moonlink tables list shows what is)',
  )
  expect(notMirrored('public.Orders', mirrored).message).toContain('did you mean shop.orders?')
  for (const far of ['public.a', 'shop.a', 'shop.lines'])
    expect(notMirrored(far, mirrored).message).toBe(`${far} is not mirrored; moonlink tables list shows what is`)
})
