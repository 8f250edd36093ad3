import { expect, test } from 'vitest'
import { roaringOf } from '../puffin/roaring.test.support.ts'
import { harness, rowsOf } from './harness.test.support.ts'
import { loadState } from './load-state.ts'
import { EMPTY_STATE, stateOf } from './table-state.ts'

test('a vector whose data file another engine removed means nothing, also to the states after', async () => {
  const h = harness()
  const storage = await h.open()
  const file = await storage.writeFile(rowsOf(9))
  const vector = { dataFile: file.path, bitmap: roaringOf([3]), cardinality: 1 }
  const { snapshotId } = await storage.commit({ kind: 'append', addFiles: [file], removeFiles: [], vectors: [vector], lsn: 10n })
  const state = await loadState(h.store, await h.metadata(), snapshotId, EMPTY_STATE)
  expect(state.vectors.size).toBe(1)
  const orphaned = state.manifests.filter((manifest) => manifest.file.content === 'deletes')
  expect(orphaned).toHaveLength(1)
  const after = stateOf(snapshotId, orphaned, EMPTY_STATE, () => expect.fail('nobody knows it'))
  expect([after.files.size, after.vectors.size]).toEqual([0, 0])
})
