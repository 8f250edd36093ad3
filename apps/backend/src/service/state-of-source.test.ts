import { expect, test, vi } from 'vitest'
import type { BackendState } from './state.ts'
import { stateOfSource } from './state-of-source.ts'

const identity = { systemIdentifier: '7', database: 'shop', serverVersion: '18.4', slot: 'moonlink_shop', publication: 'moonlink' }
const state: BackendState = {
  source: { systemIdentifier: '7', database: 'shop', slot: 'moonlink_shop' },
  coveredLsn: 1n,
  mirrored: [],
  known: [],
  added: [],
  dropped: [],
  commits: {},
  published: {},
  timeline: 1,
  timelineSince: 0n,
  purging: {},
}

test('the state of the same source is gone on with', () => {
  const warn = vi.fn()
  expect(stateOfSource(state, { ...identity, serverVersion: '19.1' }, { warn })).toBe(state)
  expect(stateOfSource(null, identity, { warn })).toBeNull()
  expect(warn).not.toHaveBeenCalled()
})

test.each([{ systemIdentifier: '8' }, { database: 'app' }, { slot: 'other' }])(
  'that of another (%j) is not, and it is said which and what to do',
  (other) => {
    const warn = vi.fn()
    expect(stateOfSource(state, { ...identity, ...other }, { warn })).toBeNull()
    expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('another mirror'), {
      reason: expect.stringMatching(/^of database "shop" with slot moonlink_shop; .*moonlink uninstall .*--state-dir/),
    })
  },
)
