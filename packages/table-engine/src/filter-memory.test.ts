import { expect, test } from 'vitest'
import { FilterMemory } from './filter-memory.ts'

class FakeIndex {
  readonly filterBytes: number
  isFilterResident = true
  isClosed = false

  constructor(filterBytes: number) {
    this.filterBytes = filterBytes
  }

  releaseFilter(): void {
    this.isFilterResident = false
  }

  async loadFilter(): Promise<void> {
    this.isFilterResident = true
  }
}

test('filters stay within their bound, the largest go first, and they come back when there is room', async () => {
  const filters = new FilterMemory(100)
  const [small, middle, large] = [10, 40, 60].map((bytes) => new FakeIndex(bytes))
  filters.add(small)
  filters.add(middle)
  expect(filters.byteSize).toBe(50)
  filters.add(large)
  expect([small, middle, large].map((index) => index.isFilterResident)).toEqual([true, true, false])
  await filters.loadOne(1000)
  expect(large.isFilterResident).toBe(false)
  expect(filters.release(1)).toBe(40)
  expect(filters.byteSize).toBe(10)
  await filters.loadOne(39)
  expect(middle.isFilterResident).toBe(false)
  await filters.loadOne(40)
  expect(middle.isFilterResident).toBe(true)
  middle.isClosed = true
  await filters.loadOne(1000)
  expect([filters.byteSize, large.isFilterResident]).toEqual([70, true])
})
