import { writeFile } from 'node:fs/promises'
import type { Field } from '@moonlink/core'
import { expect, test } from 'vitest'
import { Fixture } from './testing/fixture.ts'
import type { Row } from './testing/model-table.ts'

const fields: readonly Field[] = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'x', type: { kind: 'double' }, required: false },
  { id: 3, name: 'r', type: { kind: 'float' }, required: false },
]
const rows: readonly Row[] = [
  [0n, 0, 0],
  [1n, 0, 0],
  [2n, 5, 5],
]
/** These rows as `iceberg-writer` writes them: the least of a zero is -0.0, as Parquet wants it. */
const FILE = [
  'UEFSMRUAFTAVMCwVBhUAFQYVBgAAAAAAAAAAAAABAAAAAAAAAAIAAAAAAAAAFQAVPBU8LBUGFQAVBhUGAAACAAAABgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFEAVABUkFSQsFQYVABUG',
  'FQYAAAIAAAAGAQAAAAAAAAAAAACgQBkRAhkYCAAAAAAAAAAAGRgIAgAAAAAAAAAVAhkWAAAZHBYIFVIWAAAAGRECGRgIAAAAAAAAAIAZGAgAAAAAAAAUQBUCGRYAABkcFloVXhYAAAAZ',
  'EQIZGAQAAACAGRgEAACgQBUCGRYAABkcFrgBFUYWAAAAFQIZTEgGc2NoZW1hFQYAFQQlABgCaWRVAgAVCiUCGAF4VQQAFQglAhgBclUGABYGGRwZPCYAHBUEGSUABhkYAmlkFQAWBhZS',
  'FlImCDw2ACgIAgAAAAAAAAAYCAAAAAAAAAAAEREAGRwVABUAFQIAABa8AhUUFv4BFT4AJgAcFQoZJQAGGRgBeBUAFgYWXhZeJlo8NgAoCAAAAAAAABRAGAgAAAAAAAAAgBERABkcFQAV',
  'ABUCAAAWjgMVFBbQAhU+ACYAHBUIGSUABhkYAXIVABYGFkYWRia4ATw2ACgEAACgQBgEAAAAgBERABkcFQAVABUCAAAW0AMVFhaiAxUuABb2ARYGJggW9gEUAAAoEm1vb25saW5rIHZl',
  'cnNpb24gMhk8HAAAHAAAHAAAAC0BAABQQVIx',
]

test.each([
  ['one file', 1, false],
  ['several files', 2, false],
  ['a file with dead rows', 1, true],
])('the least and the greatest are values of rows, not bounds of a file: %s', async (_, fileCount, dies) => {
  const fixture = await Fixture.open({ minMaskedRows: 1 })
  try {
    const table = fixture.table({ schema: 'public', name: 'things' }, fields)
    for (let file = 0; file < fileCount; file++) await table.addFile(rows)
    for (const { path } of table.plan(table.lsn).files) await writeFile(path, Buffer.from(FILE.join(''), 'base64'))
    if (dies) table.remove(([id]) => id === 0n)
    // DuckDB's text tells the zeros apart.
    const extremes = 'min(x)::VARCHAR, max(x)::VARCHAR, min(r)::VARCHAR, max(r)::VARCHAR'
    for (const rest of ['', 'WHERE x >= 0', 'WHERE id < 100', 'WHERE id < 100 AND r >= 0'])
      expect(await fixture.rows(`SELECT ${extremes} FROM things ${rest}`), rest).toEqual([['0.0', '5.0', '0.0', '5.0']])
    expect(await fixture.rows('SELECT MAX(y) - 5 FROM (SELECT x AS y FROM things)')).toEqual([[0]])
    expect(await fixture.rows('SELECT max(x), max(id), count(*) FROM things')).toEqual([[5, 2, fileCount * 3 - (dies ? fileCount : 0)]])
  } finally {
    await fixture.close()
  }
})

test('zeros of both signs are equal', async () => {
  const fixture = await Fixture.open()
  try {
    const table = fixture.table({ schema: 'public', name: 'things' }, fields)
    await table.addFile([
      [0n, 0, -0],
      [1n, -0, 0],
    ])
    table.insert([[2n, -0, -0]])
    const count = async (sql: string) => (await fixture.rows(sql))[0][0]
    expect(await count('SELECT count(*) FROM (SELECT DISTINCT x FROM things)')).toBe(1)
    expect(await count('SELECT count(*) FROM things GROUP BY x')).toBe(3)
    expect(await count('SELECT count(DISTINCT r) FROM things')).toBe(1)
    expect(await count('SELECT count(*) FROM things a JOIN things b ON a.x = b.r')).toBe(9)
    for (const zero of ["'0'", "'-0'", '0', '-0.0::DOUBLE'])
      expect(await count(`SELECT count(*) FROM things WHERE x = ${zero}`), zero).toBe(3)
    expect(await count('SELECT count(*) FROM things WHERE x < 0 OR x > 0 OR x <> r')).toBe(0)
  } finally {
    await fixture.close()
  }
})
