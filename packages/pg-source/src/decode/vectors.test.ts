import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { MemorySpoolFiles } from '../spool/memory-spool-files.test.support.ts'
import { StreamDecoder } from './stream-decoder.ts'
import { kindsOf, reading, vectorFrames, vectorPath, vectorTable, vectorVersions } from './vectors.test.support.ts'

const kinds = 'ABCDEIMORSTUYck'.split('')
const twoPhaseKinds = 'KPbpr'.split('')

describe.each(vectorVersions)('what Postgres %i sent', (version) => {
  const frames = vectorFrames(version)

  it('has a message of every kind', () => {
    expect(kindsOf(frames)).toEqual([...kinds, ...(version >= 15 ? twoPhaseKinds : [])].sort())
  })

  it.each([
    ['in memory', 2 ** 20],
    ['in files', 100],
  ])('says what was read when it was recorded, with transactions in progress %s', (_, spoolMemoryBytes) => {
    const spoolFiles = new MemorySpoolFiles()
    const decoder = new StreamDecoder({ resolve: vectorTable, openTransactionBytes: 0, spoolMemoryBytes, spoolFiles })
    const read: unknown[] = []
    const take = () => read.push(...decoder.take().map(reading))
    for (const frame of frames) {
      decoder.feed(frame)
      take()
    }
    while (decoder.isReplaying) take()
    const recorded = readFileSync(vectorPath(version, 'jsonl'), 'utf8').trimEnd().split('\n')
    expect(read.map((line) => JSON.stringify(line))).toEqual(recorded)
    expect(spoolFiles.count).toBe(0)
  })
})
