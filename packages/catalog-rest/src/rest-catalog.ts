import {
  isJsonObject,
  isMoonlinkError,
  MoonlinkError,
  type Catalog,
  type CreateTable,
  type JsonObject,
  type JsonValue,
  type LoadedTable,
  type TableIdentifier,
} from '@moonlink/core'
import { answerInvalid, shown, readLoadedTable, readStagedTable, readTablePage } from './answers.ts'
import { checkCreated, createUpdates, stageRequest } from './create-updates.ts'
import { HttpClient } from './http-client.ts'
import type { HttpAnswer, HttpRequest } from './http-message.ts'
import { resolveOptions, type RestCatalogOptions, type Settings } from './options.ts'
import { namespacePath, openSession, tablePath, type Session } from './session.ts'

/**
 * A client of an Iceberg REST catalog (the OpenAPI document `rest-catalog-open-api.yaml` of apache/iceberg).
 *
 * Tables are created staged and then committed with our own field ids. Only requests that may be sent twice are repeated: a commit
 * is sent once, unless the server certainly did not take it.
 *
 * Errors besides the port's: `invalid` with `CATALOG_DENIED` (401, 403), `CATALOG_NOT_FOUND` (nothing of a catalog at that URI),
 * `CATALOG_REFUSED` (another 4xx, with the server's words), `CATALOG_CERTIFICATE`, `TABLE_NOT_FOUND` (a commit to a table that is not
 * there), `FORMAT_VERSION_UNSUPPORTED`; `retry` with `CATALOG_UNAVAILABLE` or `CATALOG_BUSY`; `corrupt` with `CATALOG_ANSWER_INVALID` or
 * `JSON_MALFORMED`.
 *
 * Not promised: OAuth's token exchange (give a token or a header); views; namespaces of several levels; that `drop` removes files at
 * once (servers may purge later, or refuse to).
 */
export class RestCatalog implements Catalog {
  readonly #settings: Settings
  readonly #http: HttpClient
  #session: Promise<Session> | null = null

  constructor(options: RestCatalogOptions) {
    this.#settings = resolveOptions(options)
    this.#http = new HttpClient(this.#settings)
  }

  async load(table: TableIdentifier): Promise<LoadedTable | null> {
    const path = tablePath(await this.#opened(), table)
    try {
      const answer = await this.#send({ method: 'GET', path, idempotent: true })
      return readLoadedTable(answer.body, nameOf(table))
    } catch (error) {
      if (statusOf(error) === 404 && (await this.#isAbsent(table, error))) return null
      throw error
    }
  }

  async create(table: TableIdentifier, options: CreateTable): Promise<LoadedTable> {
    const staged = await this.#stage(table, options)
    const created = await this.#createStaged(table, staged.metadata['table-uuid'], createUpdates(staged, options))
    checkCreated(created, options, nameOf(table))
    return created
  }

  /** Sends it again where its outcome is unknown and there is no table: whichever lands first, the table that is there then has the staged one's uuid. */
  async #createStaged(table: TableIdentifier, uuid: JsonValue | undefined, updates: readonly JsonObject[]): Promise<LoadedTable> {
    const { clock, maxAttempts } = this.#settings
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.commit(table, [{ type: 'assert-create' }], updates)
      } catch (error) {
        const isUnknown = isMoonlinkError(error, 'retry')
        if (!isUnknown && !isMoonlinkError(error, 'conflict')) throw error
        const found = isUnknown || attempt > 1 ? await this.load(table) : null
        if (found !== null && found.metadata['table-uuid'] === uuid) return found
        if (found !== null || !isUnknown) throw tableExists(table, error)
        if (attempt >= maxAttempts) throw error
      }
      await clock.sleep(this.#http.backoffMs(attempt))
    }
  }

  async drop(table: TableIdentifier, purge: boolean): Promise<void> {
    const path = `${tablePath(await this.#opened(), table)}?purgeRequested=${purge}`
    try {
      await this.#send({ method: 'DELETE', path, idempotent: true })
    } catch (error) {
      if (statusOf(error) !== 404 || typeOf(error) === null) throw error
    }
  }

  async list(namespace: string): Promise<readonly TableIdentifier[]> {
    const path = `${namespacePath(await this.#opened(), namespace)}/tables`
    const tables: TableIdentifier[] = []
    const seen = new Set<string>()
    for (let token = ''; ;) {
      const answer = await this.#sendUnlessAbsent({
        method: 'GET',
        path: `${path}?pageToken=${encodeURIComponent(token)}`,
        idempotent: true,
      })
      if (answer === null) return []
      const page = readTablePage(answer.body, `the tables of ${namespace}`)
      tables.push(...page.identifiers.map(({ name }) => ({ namespace, name })))
      token = page['next-page-token'] ?? ''
      if (token === '') return tables
      if (seen.has(token)) throw answerInvalid(`the tables of ${namespace}`, 'its pages go round in a circle')
      seen.add(token)
    }
  }

  async commit(table: TableIdentifier, requirements: readonly JsonObject[], updates: readonly JsonObject[]): Promise<LoadedTable> {
    const path = tablePath(await this.#opened(), table)
    const body = { identifier: { namespace: [table.namespace], name: table.name }, requirements, updates }
    try {
      const answer = await this.#send({ method: 'POST', path, body, idempotent: false })
      const committed = readLoadedTable(answer.body, nameOf(table))
      checkCommitted(committed, requirements, updates, nameOf(table))
      return committed
    } catch (error) {
      throw commitError(error, table)
    }
  }

  /** The uuid, location and properties the server would give the table; makes the namespace where it is missing. */
  async #stage(table: TableIdentifier, options: CreateTable): Promise<ReturnType<typeof readStagedTable>> {
    const session = await this.#opened()
    const request: HttpRequest = {
      method: 'POST',
      path: `${namespacePath(session, table.namespace)}/tables`,
      body: stageRequest(table.name, options),
      idempotent: true,
    }
    try {
      const answer =
        (await this.#sendUnlessAbsent(request)) ?? (await this.#createNamespace(session, table.namespace), await this.#send(request))
      return readStagedTable(answer.body, nameOf(table))
    } catch (error) {
      throw isMoonlinkError(error, 'conflict') ? tableExists(table, error) : error
    }
  }

  async #createNamespace(session: Session, namespace: string): Promise<void> {
    try {
      await this.#send({
        method: 'POST',
        path: `${session.base}/namespaces`,
        body: { namespace: [namespace], properties: {} },
        idempotent: true,
      })
    } catch (error) {
      // Somebody else made it first, or our own first attempt did.
      if (!isMoonlinkError(error, 'conflict')) throw error
    }
  }

  /**
   * A 404 for a table means that it is not there, except where it is the table's metadata file that is missing or the URI is wrong;
   * taking these for an absent table would let somebody create it anew over its history. Servers name the types differently, so in doubt
   * the namespace's list decides.
   */
  async #isAbsent(table: TableIdentifier, error: unknown): Promise<boolean> {
    const type = typeOf(error)
    if (type === null) return false
    if (/^NoSuch(Table|IcebergTable|Namespace)(Exception|Error)?$/.test(type)) return true
    const listed = await this.list(table.namespace)
    if (!listed.some(({ name }) => name === table.name)) return true
    throw new MoonlinkError(
      'corrupt',
      'TABLE_UNREADABLE',
      `the catalog lists ${nameOf(table)} but cannot load it: ${error instanceof Error ? error.message : String(error)}`,
      { context: { table: nameOf(table) }, cause: error },
    )
  }

  async #sendUnlessAbsent(request: HttpRequest): Promise<HttpAnswer | null> {
    try {
      return await this.#send(request)
    } catch (error) {
      if (statusOf(error) === 404 && typeOf(error) !== null) return null
      throw error
    }
  }

  async #send(request: HttpRequest): Promise<HttpAnswer> {
    const { credentials } = await this.#opened()
    return this.#http.send(request, credentials)
  }

  /** One `GET /v1/config` for all callers; a failed one is asked again by the next call. */
  #opened(): Promise<Session> {
    this.#session ??= openSession(this.#http, this.#settings).catch((error: unknown) => {
      this.#session = null
      throw error
    })
    return this.#session
  }
}

/** An answer to a commit must show what was committed; a server that answers with something else is not to be built upon. */
function checkCommitted(committed: LoadedTable, requirements: readonly JsonObject[], updates: readonly JsonObject[], what: string): void {
  const uuid = requirements.find((one) => one['type'] === 'assert-table-uuid')?.['uuid']
  if (uuid !== undefined && committed.metadata['table-uuid'] !== uuid) {
    throw answerInvalid(what, `its uuid is ${shown(committed.metadata['table-uuid'])} and the commit was to ${shown(uuid)}`)
  }
  const known = committed.metadata['snapshots']
  for (const { action, snapshot } of updates) {
    if (action !== 'add-snapshot' || !isJsonObject(snapshot)) continue
    const id = snapshot['snapshot-id']
    const isThere = Array.isArray(known) && known.some((one: JsonValue) => isJsonObject(one) && one['snapshot-id'] === id)
    if (!isThere) throw answerInvalid(what, `it says the commit succeeded, but snapshot ${shown(id)} is not in it`)
  }
}

function commitError(error: unknown, table: TableIdentifier): unknown {
  if (!(error instanceof MoonlinkError)) return error
  const details = { context: { ...error.context, table: nameOf(table) }, cause: error }
  if (error.kind === 'conflict') {
    return new MoonlinkError('conflict', 'COMMIT_CONFLICT', `somebody else changed ${nameOf(table)}: ${error.message}`, details)
  }
  const isUnknown = error.context['mayHaveHappened'] === true || error.code === 'JSON_MALFORMED'
  if (isUnknown) {
    const line = `it is not known whether the commit to ${nameOf(table)} happened (${error.message}) Load the table and look for the snapshot.`
    return new MoonlinkError('retry', 'COMMIT_UNKNOWN', line, details)
  }
  if (statusOf(error) === 404 && typeOf(error) !== null) {
    return new MoonlinkError('invalid', 'TABLE_NOT_FOUND', `the catalog has no table ${nameOf(table)}: was it dropped or renamed?`, details)
  }
  return error
}

function tableExists(table: TableIdentifier, cause: unknown): MoonlinkError {
  return new MoonlinkError('conflict', 'TABLE_EXISTS', `the catalog has a table ${nameOf(table)} already.`, {
    context: { table: nameOf(table) },
    cause,
  })
}

function statusOf(error: unknown): unknown {
  return error instanceof MoonlinkError ? error.context['status'] : undefined
}

/** The server's own error type; null where the answer was not one of a catalog. */
function typeOf(error: unknown): string | null {
  const type = error instanceof MoonlinkError ? error.context['type'] : null
  return typeof type === 'string' ? type : null
}

function nameOf(table: TableIdentifier): string {
  return `${table.namespace}.${table.name}`
}
