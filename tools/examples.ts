/** What the examples of the package pages take for granted, so that each can be compiled and run as it stands there. */
export interface Example {
  /** Statements before the example. */
  readonly given?: string
  /** Further files beside it. */
  readonly files?: Readonly<Record<string, string>>
  /** Texts of the example that name a place on somebody's machine, and what stands for them here. */
  readonly replace?: (places: Places) => Readonly<Record<string, string>>
  /** Why it is compiled but not run. */
  readonly onlyCompiled?: string
}

export interface Places {
  /** A directory of its own. */
  readonly directory: string
  /** A Postgres with one table, `public.orders`. */
  readonly postgres: string
}

const table = `
const table = { schema: 'shop', name: 'orders' }
const schema = { fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }], identifierFieldIds: [1] } as const`

const engine = `
import { mkdtempSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import type { SourceEvent } from '@moonlink/core'
import { FileCatalog, openTableStorage, ParquetWorkerPool } from '@moonlink/iceberg-writer'
import { LocalFileCache, LocalObjectStore } from '@moonlink/object-store'
${table}
const place = mkdtempSync('given-')
const store = new LocalObjectStore()
const warehouse = pathToFileURL(place).href
const storage = await openTableStorage({ table, schema, catalog: new FileCatalog({ store, warehouse }), store, parquet: new ParquetWorkerPool() })
const stream = (async function* (): AsyncGenerator<SourceEvent> {
  yield { kind: 'watermark', lsn: 1n, sourceLsn: 1n, commitTimeMs: null }
})()
const files = await LocalFileCache.open({ store, directory: place + '/cache', maxBytes: 2 ** 20 })`

export const examples: Readonly<Record<string, Example>> = {
  'catalog-rest': { onlyCompiled: 'it needs a REST catalog; rest-catalog.rest.test.ts does the same on one' },
  'change-log': {
    given: `
const decoderState = new Uint8Array(8)
const frames = new Uint8Array(8)
const read = (entry: unknown) => void entry`,
    replace: ({ directory }) => ({ '/srv/moonlink/log': `${directory}/log` }),
  },
  'iceberg-writer': {
    given: `
import { appendValue, BatchBuilder } from '@moonlink/core'
${table}
const builder = new BatchBuilder(schema.fields)
appendValue(builder.builders[0]!, 7n)
const rows = builder.view()`,
    replace: ({ directory }) => ({
      "{ schema: 'shop', name: 'orders' }": 'table',
      'file:///tmp/warehouse': `file://${directory}/warehouse`,
    }),
  },
  'object-store': { replace: ({ directory }) => ({ '/srv/': `${directory}/` }) },
  'pg-source': { replace: ({ postgres }) => ({ 'postgres://app:secret@127.0.0.1:5432/shop': postgres }) },
  'pk-index': { replace: ({ directory }) => ({ '/tmp/': `${directory}/` }) },
  'table-engine': { given: engine },
  sql: {
    given: `${engine}
import { silentLogger, systemClock, systemRandom } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { defaultEngineLimits, Engine } from '@moonlink/table-engine'
await loadRoaring()
const leases = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, indexDirectory: place + '/index', limits: defaultEngineLimits })
await (await leases.addMirror({ table, schema, storage, appendOnly: false })).finishCopy(0n)
for await (const event of stream) await leases.apply(event)`,
    replace: ({ directory }) => ({ '/var/lib/moonlink': directory }),
  },
  testkit: {
    files: { 'my-store.ts': `export { MemoryObjectStore as MyStore } from '@moonlink/object-store'\n` },
    onlyCompiled: 'it is a test file; object-stores.test.ts is one',
  },
  backend: { replace: ({ postgres, directory }) => ({ 'postgres://mirror@db.example/app': postgres, "'state'": `'${directory}/state'` }) },
}
