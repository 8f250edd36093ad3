import { silentLogger, systemClock, type Lsn, type TableShape } from '@moonlink/core'
import type { FieldSource } from '@moonlink/pg-source'
import { expect, test } from 'vitest'
import { unknownType } from './source-text.ts'
import { Verifier } from './verifier.ts'

const table = { schema: 'public', name: 't' }
const field = { id: 1, name: 'id', type: { kind: 'long' }, required: true } as const
const shape: TableShape = { schema: { fields: [field], identifierFieldIds: [1] }, sourceState: null }
const source: FieldSource = {
  column: 'id',
  type: { ...unknownType, oid: 20, name: 'int8', schema: 'pg_catalog' },
  role: 'value',
  fieldType: field.type,
  unfit: null,
  dropsLowerBounds: false,
}
const BUCKET = ['0', '1', '5', '6'] as const

/** The mirror has one row at each LSN; the source has none in snapshots taken before its schema changed. `states`: the source's, one look after the other. */
function verifierOf(states: string[]) {
  const shown: Lsn[] = []
  let lsn = 0n
  const verifier = new Verifier({
    openSnapshot: async () => {
      const own = ++lsn
      const rows = async (sql: string) => (sql.includes('pg_class') ? [['r', '0', 'heap']] : own === 1n ? [] : [BUCKET])
      return { lsn: own, rows, close: async () => undefined }
    },
    shape: (_, at) => {
      if (at !== undefined) shown.push(at)
      return shape
    },
    sourceMark: async () => states.shift() ?? 'last',
    fieldSources: () => new Map([[1, source]]),
    rowFilter: async () => null,
    query: async (sql, at) => ({
      lsn: at,
      columns: [],
      // eslint-disable-next-line @typescript-eslint/require-await
      rows: (async function* () {
        yield [sql.includes('bucket') ? BUCKET : ['1']]
      })(),
      close: () => undefined,
    }),
    clock: systemClock,
    logger: silentLogger,
  })
  return { verifier, shown }
}

test('what was read while the schema changed does not count: it is read again, in the shape of the later LSN', async () => {
  const { shown, verifier } = verifierOf(['before', 'after', 'after', 'after'])
  expect(await verifier.verify({ table })).toMatchObject({ equal: true, lsn: 2n, sourceRows: 1, mirrorRows: 1 })
  expect(shown).toEqual([1n, 2n])
})

test('a schema that changes all the time is said, and no difference', async () => {
  const { verifier } = verifierOf(Array.from({ length: 99 }, (_, index) => String(index)))
  await expect(verifier.verify({ table })).rejects.toMatchObject({ kind: 'retry', code: 'SCHEMA_CHANGED' })
})
