import { expect, test } from 'vitest'
import type { KeyHashes } from './key-hashes.ts'
import { sortedRuns } from './sort-entries.ts'

function hashesOf(length: number, highOf: (row: number) => number): KeyHashes {
  const hashes = { low: new Uint32Array(length), high: new Uint32Array(length), length }
  for (let row = 0; row < length; row++) {
    hashes.low[row] = Math.imul(row, 0x9e3779b1) >>> 28
    hashes.high[row] = highOf(row)
  }
  return hashes
}

const mixed = (row: number) => Math.imul(row ^ (row >>> 15), 0x85ebca77)

test.each<[string, number, (row: number) => number]>([
  ['few', 100, mixed],
  ['more than are sorted at a time', 1_200_000, mixed],
  ['most with one hash', 60_000, (row) => (row % 10 === 0 ? mixed(row) : 0x8765_4321)],
  ['with hashes at both ends alone', 40_000, (row) => (row % 2 === 0 ? 0 : 0xffff_ffff)],
])('%s: every row comes once, in the order of high, low and row', async (_, length, highOf) => {
  const hashes = hashesOf(length, highOf)
  const isSeen = new Uint8Array(length)
  let [before, count] = [-1, 0]
  for await (const run of sortedRuns(hashes)) {
    for (let index = 0; index < run.length; index++, count++) {
      const row = run.rows[index]
      const isOwn = run.high[index] === hashes.high[row] && run.low[index] === hashes.low[row]
      const order = before < 0 ? 1 : hashes.high[row] - hashes.high[before] || hashes.low[row] - hashes.low[before] || row - before
      // By hand: it is asked too often for matchers.
      if (!isOwn || order <= 0 || isSeen[row] === 1) expect.fail(`row ${row} behind row ${before}`)
      isSeen[row] = 1
      before = row
    }
  }
  expect(count).toBe(length)
})
