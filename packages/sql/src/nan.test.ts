import { writeFile } from 'node:fs/promises'
import type { Field } from '@moonlink/core'
import { expect, test } from 'vitest'
import { Fixture } from './testing/fixture.ts'
import type { Row } from './testing/model-table.ts'

const fields: readonly Field[] = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'x', type: { kind: 'double' }, required: false },
]
const rows: readonly Row[] = [
  [0n, 0],
  [1n, 1],
  [2n, Number.NaN],
]
/** These rows as Arrow writes them, whose bounds of `x` are 0 and 1. DuckDB itself writes none beside NaN. */
const FILE = [
  'UEFSMRUAFTwVPCwVBhUAFQYVBhwYCAIAAAAAAAAAGAgAAAAAAAAAABYAKAgCAAAAAAAAABgIAAAAAAAAAAAREQAAAAIAAAAGAQAAAAAAAAAAAQAAAAAAAAACAAAAAAAAAB',
  'UAFTwVPCwVBhUAFQYVBhwYCAAAAAAAAPA/GAgAAAAAAAAAgBYAKAgAAAAAAADwPxgIAAAAAAAAAIAREQAAAAIAAAAGAQAAAAAAAAAAAAAAAAAA8D8AAAAAAAD4fxUEGTw1',
  'ABgGc2NoZW1hFQQAFQQlAhgCaWRVAgAVCiUCGAF4VQQAFgYZHBksJgAcFQQZJQYAGRgCaWQVABYGFroBFroBJgg8GAgCAAAAAAAAABgIAAAAAAAAAAAWACgIAgAAAAAAAA',
  'AYCAAAAAAAAAAAEREAGRwVABUAFQIAPCkGGSYABgAAACYAHBUKGSUGABkYAXgVABYGFroBFroBJsIBPBgIAAAAAAAA8D8YCAAAAAAAAACAFgAoCAAAAAAAAPA/GAgAAAAA',
  'AAAAgBERABkcFQAVABUCADwpBhkmAAYAAAAW9AIWBiYIFvQCACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZLBwAABwAAAAYAQAAUEFSMQ==',
]

test.each([
  ['alone', Infinity, false],
  ['beside a live mask', Infinity, true],
  ['that do not fit into the cache together', 1, false],
])('NaN is found in files whose bounds leave it out: files %s', async (_, limit, dies) => {
  const fixture = await Fixture.open({ minMaskedRows: 1 })
  try {
    const table = fixture.table({ schema: 'public', name: 'things' }, fields)
    for (let file = 0; file < 2; file++) await table.addFile(rows)
    for (const { path } of table.plan(table.lsn).files) await writeFile(path, Buffer.from(FILE.join(''), 'base64'))
    if (dies) table.remove(([id]) => id === 0n)
    fixture.files.limit = limit
    const zeros = dies ? 0 : 2
    const count = async (condition: string) => (await fixture.rows(`SELECT count(*) FROM things WHERE ${condition}`))[0][0]
    expect(await count('x > 0')).toBe(4)
    expect(await count('x > 1')).toBe(2)
    expect(await count('x <= 1')).toBe(2 + zeros)
    expect(await count(`x = 'NaN'`)).toBe(2)
    expect(await count(`x <> 'NaN'`)).toBe(2 + zeros)
    expect(await fixture.rows('SELECT max(x) FROM things')).toEqual([['NaN']])
  } finally {
    await fixture.close()
  }
})
