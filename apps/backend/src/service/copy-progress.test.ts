import { expect, test } from 'vitest'
import { CopyProgress } from './copy-progress.ts'

const table = { estimatedRows: 1000, pages: 100, pageBytes: 8192, storage: '1/1', horizon: '7' }

test('rows tell the share until a range is through, then pages do; the pace is that of this attempt', () => {
  const progress = new CopyProgress(table, [{ from: 0, to: 50 }], 10_000)
  expect(progress.report(500, 11_000)).toEqual({ estimatedRows: 1000, bytes: 50 * 8192, totalBytes: 100 * 8192, share: 0.5, leftMs: null })
  expect(progress.report(600, 12_000)).toMatchObject({ share: 0.6, leftMs: 8000 })
  progress.finished({ from: 50, to: 75 })
  expect(progress.report(600, 15_000)).toMatchObject({ bytes: 75 * 8192, share: 0.75, leftMs: 5000 })
  // Pages that came since do not count.
  progress.finished({ from: 75, to: null })
  expect(progress.report(1200, 20_000)).toMatchObject({ bytes: 100 * 8192, share: 1, leftMs: 0 })
})

test('a table of which nothing is known has no share and no time left', () => {
  const progress = new CopyProgress({ ...table, estimatedRows: null, pages: 0 }, [], 0)
  expect(progress.report(10, 1000)).toEqual({ estimatedRows: null, bytes: 0, totalBytes: 0, share: 0, leftMs: null })
})
