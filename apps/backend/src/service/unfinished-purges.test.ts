import {
  BatchBuilder,
  MoonlinkError,
  silentLogger,
  systemClock,
  systemRandom,
  type Catalog,
  type LoadedTable,
  type ObjectStore,
  type TableIdentifier,
  type TableSchema,
} from '@moonlink/core'
import { FileCatalog, openTableStorage, removeTableFiles } from '@moonlink/iceberg-writer'
import { MemoryObjectStore } from '@moonlink/object-store'
import { expect, test, vi } from 'vitest'
import { simParquet } from '../testing/sim/sim-parquet.ts'
import type { SourceIdentity } from './parts.ts'
import { RememberedTables } from './remembered-tables.ts'
import { encodeState, parseState, type BackendState } from './state.ts'
import { ownerProperties } from './table-owner.ts'
import { UnfinishedPurges } from './unfinished-purges.ts'

const warehouse = 'memory://lake'
const name = 'public.t'
const table = { schema: 'public', name: 't' }
const identifier = { namespace: 'public', name: 't' }
const schema: TableSchema = { fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }], identifierFieldIds: [1] }
const identity: SourceIdentity = { systemIdentifier: '1', database: 'd', serverVersion: '18', slot: 's', publication: 'p' }
const ports = { clock: systemClock, random: systemRandom, logger: silentLogger }
const away = () => new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the store is away.')

/** A server's catalog: a map of names, files where it was told, and a purge that it leaves to others. */
class ForgetfulCatalog implements Catalog {
  readonly tables = new Map<string, LoadedTable>()
  readonly #inner: FileCatalog

  constructor(inner: FileCatalog) {
    this.#inner = inner
  }

  async load({ name }: TableIdentifier): Promise<LoadedTable | null> {
    return this.tables.get(name) ?? null
  }

  async create(...args: Parameters<Catalog['create']>): Promise<LoadedTable> {
    return this.#keep(args[0], await this.#inner.create(...args))
  }

  async drop({ name }: TableIdentifier): Promise<void> {
    this.tables.delete(name)
  }

  async list(): Promise<readonly TableIdentifier[]> {
    return []
  }

  async commit(...args: Parameters<Catalog['commit']>): Promise<LoadedTable> {
    return this.#keep(args[0], await this.#inner.commit(...args))
  }

  #keep({ name }: TableIdentifier, loaded: LoadedTable): LoadedTable {
    this.tables.set(name, loaded)
    return loaded
  }
}

const catalogs = {
  'a catalog in the store': (inner: FileCatalog): Catalog => inner,
  'a server that purges nothing': (inner: FileCatalog): Catalog => new ForgetfulCatalog(inner),
}

/** A warehouse with a table, and lives of a backend that purges it. `fails` is asked at each call that leaves it. */
async function setup(catalogOf: (inner: FileCatalog) => Catalog) {
  const inner = new MemoryObjectStore()
  let fails: () => boolean = () => false
  const guard = <Port extends object>(port: Port): Port =>
    new Proxy(port, {
      get: (target, key) => {
        const method: unknown = Reflect.get(target, key, target)
        if (typeof method !== 'function') return method
        return (...args: unknown[]) => {
          if (fails()) return key === 'list' ? failingList() : Promise.reject(away())
          return Reflect.apply(method, target, args) as unknown
        }
      },
    })
  const store: ObjectStore = guard(inner)
  const catalog = guard(catalogOf(new FileCatalog({ ...ports, store, warehouse })))
  let state = encodeState({
    source: { systemIdentifier: '1', database: 'd', slot: 's' },
    coveredLsn: 0n,
    mirrored: [],
    known: [],
    added: [],
    dropped: [name],
    purging: {},
    commits: {},
    published: {},
    timeline: null,
    timelineSince: null,
  })
  const make = async (commits: number) => {
    const properties = ownerProperties(identity, table)
    const storage = await openTableStorage({ ...ports, table, schema, catalog, store, parquet: simParquet, properties })
    for (let lsn = 1; lsn <= commits; lsn++) {
      const builder = new BatchBuilder(schema.fields, 1)
      builder.builders[0].appendInt64(lsn, 0)
      const file = await storage.writeFile({ rows: builder.view(), rowIds: null, lastUpdated: null })
      await storage.commit({ kind: 'append', addFiles: [file], removeFiles: [], vectors: [], lsn: BigInt(lsn) })
    }
    return storage.snapshot.metadataLocation
  }
  const live = () => {
    const read = parseState(state, 'state')
    const write = async (written: BackendState) => {
      if (fails()) throw new MoonlinkError('retry', 'STATE_NOT_WRITTEN', 'the disk is full.')
      state = encodeState(written)
    }
    const remembered = new RememberedTables({
      store: { write },
      source: { history: { timeline: null, sinceLsn: null } as never, identity, publicationMark: () => '' },
      state: read,
      mirror: () => undefined,
      live: () => [],
      covered: () => [],
      known: () => [],
    })
    const listed = [`${warehouse}/public/t/data/staged`]
    const purges = new UnfinishedPurges({
      ...ports,
      warehouse: {
        uri: warehouse,
        catalog,
        removeFiles: (removed, beforeEach) => removeTableFiles(removed, { store, logger: silentLogger, beforeEach }),
        removeFile: (uri) => store.delete(uri),
      },
      engine: { removeListedFiles: async (_, remove) => void (await Promise.all(listed.map(remove))) },
      source: { identity },
      lease: null,
      remembered,
      acknowledger: { remember: () => remembered.write(0n) },
    })
    return { purges, remembered }
  }
  return {
    inner,
    make,
    live,
    catalog,
    setFails: (isFailing: () => boolean) => (fails = isFailing),
    purging: () => parseState(state, 'state').purging,
    files: async () => {
      const found: string[] = []
      for await (const { uri } of inner.list(`${warehouse}/`)) found.push(uri)
      return found
    },
  }
}

// oxlint-disable-next-line require-yield
async function* failingList(): AsyncGenerator<never> {
  throw away()
}

test.each(Object.entries(catalogs))(
  'with %s, a purge that is cut off at any call is finished by the next process',
  async (_, catalogOf) => {
    let cutOff = 0
    for (let at = 1; ; at++) {
      const { files, inner, live, make, purging, setFails } = await setup(catalogOf)
      await make(3)
      const staged = `${warehouse}/public/t/data/staged`
      await inner.put(staged, Uint8Array.of(1))
      const first = live()
      first.purges.begin(name, await first.purges.identify(name))
      let calls = 0
      setFails(() => ++calls >= at)
      const isCut = await first.purges.finish(name).then(
        () => false,
        (error: unknown) => (expect(error).toMatchObject({ kind: 'retry', code: 'PURGE_UNFINISHED' }), true),
      )
      setFails(() => false)
      if (isCut) {
        cutOff++
        const next = live()
        // What had not been written down was not begun.
        if (at === 1) expect([next.purges.has(name), (await files()).length > 5]).toEqual([false, true])
        else {
          expect(next.purges.reasons.get(name)).toContain('being removed')
          expect(() => next.purges.requireFinished(name)).toThrow(/files of its Iceberg table/)
          await next.purges.finishBefore(name)
        }
      }
      if (at > 1) {
        expect(purging(), `call ${at}`).toEqual({})
        // The hint is this file catalog's own; its server's would not be there.
        expect(
          (await files()).filter((uri) => !uri.endsWith('version-hint.text')),
          `call ${at}`,
        ).toEqual([])
      }
      if (!isCut) break
    }
    expect(cutOff).toBeGreaterThan(15)
  },
)

test('a purge that fails is tried again by itself', async () => {
  const { files, live, make, purging, setFails } = await setup(catalogs['a catalog in the store'])
  await make(1)
  const { purges } = live()
  purges.begin(name, await purges.identify(name))
  setFails(() => true)
  await expect(purges.finish(name)).rejects.toMatchObject({ code: 'PURGE_UNFINISHED' })
  purges.start()
  setFails(() => false)
  await expect.poll(() => purges.has(name)).toBe(false)
  await purges.stop()
  expect([purging(), await files()]).toEqual([{}, []])
})

test('a table that somebody else has made meanwhile stays', async () => {
  const { catalog, files, live, make, purging, setFails } = await setup(catalogs['a catalog in the store'])
  await make(2)
  const first = live()
  first.purges.begin(name, await first.purges.identify(name))
  let calls = 0
  setFails(() => ++calls > 20)
  await expect(first.purges.finish(name)).rejects.toMatchObject({ code: 'PURGE_UNFINISHED' })
  setFails(() => false)
  expect(purging()).not.toEqual({})
  await catalog.drop(identifier, true)
  await make(2)
  const there = await files()
  await live().purges.finish(name)
  expect([purging(), await files()]).toEqual([{}, there])
})

test('a table that mirrors another source is not purged', async () => {
  const { catalog, live } = await setup(catalogs['a catalog in the store'])
  const properties = ownerProperties({ ...identity, database: 'other' }, table)
  await catalog.create(identifier, { schema: { type: 'struct', fields: [] }, properties })
  await expect(live().purges.identify(name)).rejects.toMatchObject({ code: 'WAREHOUSE_OTHER_SOURCE' })
})

test('one that is given up leaves what is left', async () => {
  const { files, live, make, purging, setFails } = await setup(catalogs['a catalog in the store'])
  await make(3)
  const { purges, remembered } = live()
  purges.begin(name, await purges.identify(name))
  let calls = 0
  setFails(() => ++calls > 8)
  await expect(purges.finish(name)).rejects.toMatchObject({ code: 'PURGE_UNFINISHED' })
  setFails(() => false)
  const left = await files()
  expect(left.length).toBeGreaterThan(0)
  await purges.giveUp(name)
  await remembered.write(0n)
  expect([purging(), purges.has(name), await files()]).toEqual([{}, false, left])
})

test('nothing is removed once another backend has taken over, and it is not tried again', async () => {
  const { files, live, make } = await setup(catalogs['a catalog in the store'])
  await make(1)
  const lost = new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over')
  const requireCurrent = vi.fn<() => Promise<void>>(() => Promise.resolve())
  const { remembered } = live()
  const there = await files()
  const drop = vi.fn<() => Promise<void>>(() => Promise.resolve())
  const purges = new UnfinishedPurges({
    ...ports,
    warehouse: {
      uri: warehouse,
      catalog: { load: async () => null, drop } as never,
      removeFiles: async () => undefined,
      removeFile: async () => undefined,
    },
    engine: { removeListedFiles: async () => undefined },
    source: { identity },
    lease: { check: () => Promise.resolve(), requireCurrent },
    remembered,
    acknowledger: { remember: () => remembered.write(0n) },
  })
  purges.begin(name, { uuid: null, metadataLocation: null })
  requireCurrent.mockResolvedValueOnce().mockRejectedValueOnce(lost)
  await expect(purges.finish(name)).rejects.toBe(lost)
  expect(drop).not.toHaveBeenCalled()
  expect(await files()).toEqual(there)
})
