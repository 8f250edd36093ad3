import { expect, test } from 'vitest'
import { sourceNotes } from './source-notes.ts'

const server = (versionNumber: number) => ({ version: String(Math.floor(versionNumber / 10_000)), versionNumber })

test('before Postgres 18, prepared transactions and failovers together are warned of', () => {
  const both = { slot: 'moonlink_shop', failover: true, twoPhase: true }
  expect(sourceNotes(server(170_010), both)).toEqual([expect.stringMatching(/^Postgres 17 .* slot "moonlink_shop" .*PG_PREPARED_LOST/)])
  expect(sourceNotes(server(180_000), both)).toEqual([])
  expect(sourceNotes(server(170_010), { ...both, failover: false })).toEqual([])
  expect(sourceNotes(server(170_010), { ...both, twoPhase: false })).toEqual([])
})
