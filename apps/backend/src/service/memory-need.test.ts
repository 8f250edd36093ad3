import { expect, test } from 'vitest'
import { loadConfig } from '../config/load.ts'
import { memoryNeed, memoryNotes } from './memory-need.ts'

const configOf = (flags: Record<string, unknown>) => loadConfig({ environment: {}, flags, workingDirectory: '/' }).config

test('a container that is too small for the settings is told of, one that is large enough is not', () => {
  const config = configOf({ memory: { limitBytes: '256MiB' }, sql: { memoryBytes: '128MiB' } })
  expect(memoryNotes(config, memoryNeed(config))).toEqual([])
  const [note] = memoryNotes(config, 512 * 2 ** 20)
  expect(note).toMatch(
    /may come to take 966 MiB, and there are 512 MiB; lower memory\.limitBytes \(256 MiB\) or sql\.memoryBytes \(128 MiB\)/,
  )
})

test('each further Parquet worker takes its share', () => {
  expect(memoryNeed(configOf({ parquet: { workers: 3 } })) - memoryNeed(configOf({}))).toBe(200 * 2 ** 20)
})
