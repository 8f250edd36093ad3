import { expect, test } from 'vitest'
import { Semaphore } from './semaphore.ts'

test('sections run beside each other as far as they fit, in their order, and a heavier one alone', async () => {
  const semaphore = new Semaphore(10)
  const running = new Map<string, () => void>()
  const begin = (name: string, weight: number) =>
    semaphore.run(weight, async () => {
      await new Promise<void>((resolve) => running.set(name, resolve))
      running.delete(name)
    })
  const end = async (name: string) => {
    running.get(name)!()
    await new Promise((resolve) => setImmediate(resolve))
    return [...running.keys()]
  }
  const all = [begin('a', 4), begin('b', 5), begin('c', 99), begin('d', 1), begin('e', 9)]
  await new Promise((resolve) => setImmediate(resolve))
  expect([...running.keys()]).toEqual(['a', 'b'])
  expect(await end('a')).toEqual(['b'])
  expect(await end('b')).toEqual(['c'])
  expect(await end('c')).toEqual(['d', 'e'])
  await end('d')
  await end('e')
  await Promise.all(all)
})

test('one that fails makes room, too', async () => {
  const semaphore = new Semaphore(1)
  await expect(semaphore.run(1, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(await semaphore.run(1, async () => 'yes')).toBe('yes')
})
