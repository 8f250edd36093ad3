import { MoonlinkError, silentLogger, systemClock, systemRandom, type Clock, type Logger, type Random } from '@moonlink/core'

export interface RestCatalogOptions {
  /** Base URI of the server, without `/v1`: `http://127.0.0.1:8181`, `https://host/api/catalog`. */
  readonly uri: string
  /** Sent with `GET /v1/config`, for servers that hold several warehouses. */
  readonly warehouse?: string
  /** Bearer token. Default: none. */
  readonly token?: string
  /** Sent with every request, such as `X-Iceberg-Access-Delegation`. */
  readonly headers?: Readonly<Record<string, string>>
  /** The client's part of the configuration merge: the server's defaults < these < the server's overrides. */
  readonly properties?: Readonly<Record<string, string>>
  /** Time for one request, its answer included. Default: 30,000 ms. */
  readonly timeoutMs?: number
  /** How often a request that can be repeated safely is sent at most. Default: 4. */
  readonly maxAttempts?: number
  /** Pause before the first repetition; doubles with each, with jitter, up to 5,000 ms. Default: 100 ms. */
  readonly backoffMs?: number
  readonly clock?: Clock
  readonly random?: Random
  readonly logger?: Logger
}

export type Settings = Required<Omit<RestCatalogOptions, 'warehouse' | 'token'>> & {
  readonly warehouse: string | null
  readonly token: string | null
}

/** Fills in defaults. Throws `invalid`/`CATALOG_URI_INVALID`. */
export function resolveOptions(options: RestCatalogOptions): Settings {
  return {
    uri: checkedUri(options.uri),
    warehouse: options.warehouse ?? null,
    token: options.token ?? null,
    headers: options.headers ?? {},
    properties: options.properties ?? {},
    timeoutMs: options.timeoutMs ?? 30_000,
    maxAttempts: options.maxAttempts ?? 4,
    backoffMs: options.backoffMs ?? 100,
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
    logger: options.logger ?? silentLogger,
  }
}

function checkedUri(uri: string): string {
  const parsed = URL.canParse(uri) ? new URL(uri) : null
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) throw uriInvalid('it is not an http: or https: URI')
  if (parsed.username !== '' || parsed.password !== '') throw uriInvalid('it holds a password; give a token or headers instead')
  if (parsed.search !== '' || parsed.hash !== '') throw uriInvalid('it has a query or fragment')
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`
}

/** The URI itself stays out of the message: it may hold a password. */
function uriInvalid(why: string): MoonlinkError {
  return new MoonlinkError(
    'invalid',
    'CATALOG_URI_INVALID',
    `cannot use the catalog's URI: ${why}. Write the server's base URI, such as http://127.0.0.1:8181.`,
  )
}
