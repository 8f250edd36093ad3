import { MoonlinkError, type Catalog, type Clock, type ObjectStore, type Random } from '@moonlink/core'
import { FileCatalog } from '@moonlink/iceberg-writer'
import { TIMEOUT_MS, type SimProcess } from './sim-process.ts'

export interface SimCatalogServerOptions {
  readonly store: ObjectStore
  readonly warehouse: string
  readonly clock: Clock
  readonly random: Random
}

/** A catalog that is a server of its own, as a REST catalog is: one request is served after another, whoever sent it. */
export class SimCatalogServer {
  readonly clock: Clock
  private readonly catalog: Catalog
  private last: Promise<unknown> = Promise.resolve()

  constructor(options: SimCatalogServerOptions) {
    this.clock = options.clock
    this.catalog = new FileCatalog(options)
  }

  serve<T>(work: (catalog: Catalog) => Promise<T>): Promise<T> {
    const served = this.last.then(() => work(this.catalog)).catch(serversTrouble)
    this.last = served.catch(() => undefined)
    return served
  }
}

/** The server as a process sees it over a network that fails, with the errors that the client of a REST catalog gives. */
export function simCatalog(server: SimCatalogServer, process: SimProcess): Catalog {
  const { clock } = server
  const read = <T>(work: (catalog: Catalog) => Promise<T>): Promise<T> =>
    process.request(async () => {
      const { fate } = process.requestFate()
      if (fate === 'hang') await clock.sleep(TIMEOUT_MS)
      if (fate !== 'pass' && fate !== 'twice') throw unavailable('no answer')
      return server.serve(work)
    })
  const write = <T>(work: (catalog: Catalog) => Promise<T>): Promise<T> =>
    process
      .request(async () => {
        const { fate, lateByMs } = process.requestFate()
        if (fate === 'refuse') throw unavailable('the connection was refused')
        if (fate === 'hang') await clock.sleep(TIMEOUT_MS)
        if (fate === 'late') void clock.sleep(lateByMs).then(() => server.serve(work).catch(() => undefined))
        if (fate === 'lose answer') await server.serve(work)
        if (fate !== 'pass' && fate !== 'twice') throw unknown('no answer')
        // As by a proxy that got no answer the first time.
        if (fate === 'twice') await server.serve(work).catch(() => undefined)
        return server.serve(work)
      })
      .catch((error: unknown) => {
        if (error instanceof MoonlinkError && error.code === 'CATALOG_FAILED') throw unknown(error.message)
        throw error
      })
  return {
    load: (table) => read((catalog) => catalog.load(table)),
    list: (namespace) => read((catalog) => catalog.list(namespace)),
    drop: (table, purge) => read((catalog) => catalog.drop(table, purge)),
    create: (table, options) => write((catalog) => catalog.create(table, options)),
    commit: (table, requirements, updates) => write((catalog) => catalog.commit(table, requirements, updates)),
  }
}

/** A server that can't write answers with a status from 500 on. */
function serversTrouble(error: unknown): never {
  if (error instanceof MoonlinkError && (error.kind === 'retry' || error.code === 'STORE_FULL'))
    throw new MoonlinkError('retry', 'CATALOG_FAILED', error.message)
  throw error
}

const unavailable = (why: string) => new MoonlinkError('retry', 'CATALOG_UNAVAILABLE', `a planned failure: ${why}.`)
const unknown = (why: string) => new MoonlinkError('retry', 'COMMIT_UNKNOWN', `a planned failure: ${why}.`)
