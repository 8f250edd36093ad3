import { expect, test } from 'vitest'
import { mergeLanes } from './merge.ts'

async function* counting(from: number, to: number, log: string[]): AsyncGenerator<number, void, undefined> {
  try {
    for (let value = from; value < to; value++) {
      await Promise.resolve()
      yield value
    }
  } finally {
    log.push(`closed ${from}`)
  }
}

test('every value of every lane comes once, each lane in order', async () => {
  const log: string[] = []
  const values: number[] = []
  for await (const value of mergeLanes([counting(0, 5, log), counting(100, 102, log), counting(200, 200, log)])) values.push(value)
  expect(values.filter((value) => value < 100)).toEqual([0, 1, 2, 3, 4])
  expect(values.filter((value) => value >= 100)).toEqual([100, 101])
  expect(log.sort()).toEqual(['closed 0', 'closed 100', 'closed 200'])
})

test('leaving early, or a lane that fails, closes all lanes', async () => {
  const log: string[] = []
  for await (const value of mergeLanes([counting(0, 5, log), counting(100, 105, log)])) if (value >= 0) break
  expect(log.sort()).toEqual(['closed 0', 'closed 100'])
  const failing = async function* (): AsyncGenerator<number, void, undefined> {
    yield 1
    throw new Error('lane broke')
  }
  const all = async () => {
    for await (const value of mergeLanes([failing(), counting(0, 1000, log)])) if (value > 2000) break
  }
  await expect(all()).rejects.toThrow('lane broke')
  expect(log).toHaveLength(3)
})
