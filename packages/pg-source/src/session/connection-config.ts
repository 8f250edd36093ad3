import { MoonlinkError } from '@moonlink/core'
import { z } from 'zod'

/** libpq's meaning: `require` encrypts without verifying, `verify-ca` checks the authority, `verify-full` the host name too. */
const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
export type SslMode = (typeof sslModes)[number]

/** Where Postgres is, in parts, for those whose password is no part of a URL. What is left out comes from the `PG*` variables, a password also from `~/.pgpass`. */
export interface ConnectionParts {
  /** Host name, address, or directory of a unix socket; or several with commas between, of which the primary is used. */
  readonly host?: string | undefined
  /** One, or with several hosts one for each with commas between. Default: 5432. */
  readonly port?: number | string | undefined
  /** Role to log in as, which needs `REPLICATION`. */
  readonly user?: string | undefined
  readonly password?: string | undefined
  readonly database?: string | undefined
  /** Meanings as in libpq. Default: `verify-full`, and `prefer` for this machine itself. */
  readonly sslmode?: SslMode | undefined
  /** File of trusted authorities (PEM), or `system`. Default: the runtime's own list. */
  readonly sslrootcert?: string | undefined
  /** File of the client certificate. */
  readonly sslcert?: string | undefined
  /** File of its key. */
  readonly sslkey?: string | undefined
  /** What the server shows of the connections, as in `pg_stat_activity`; what each is for is added. */
  readonly applicationName?: string | undefined
  /** Server settings for the session, as in libpq: `-c name=value`. */
  readonly options?: string | undefined
}

/** What checks `ConnectionParts`. */
export const connectionParts = z.strictObject({
  host: z.string().optional(),
  port: z
    .union([
      z.coerce.number<number | string>().int().min(1).max(65535),
      z.string().regex(/^\d+(,\d+)+$/, 'must be a port, or one for each host'),
    ])
    .optional(),
  user: z.string().optional(),
  password: z.string().optional(),
  database: z.string().optional(),
  sslmode: z.enum(sslModes).optional(),
  sslrootcert: z.string().optional(),
  sslcert: z.string().optional(),
  sslkey: z.string().optional(),
  applicationName: z.string().optional(),
  options: z.string().optional(),
}) satisfies z.ZodType<ConnectionParts, ConnectionParts>

const DEFAULT_PORT = '5432'

const keys: Readonly<Record<string, keyof ConnectionParts>> = {
  host: 'host',
  hostaddr: 'host',
  port: 'port',
  user: 'user',
  password: 'password',
  dbname: 'database',
  sslmode: 'sslmode',
  sslrootcert: 'sslrootcert',
  sslcert: 'sslcert',
  sslkey: 'sslkey',
  application_name: 'applicationName',
  options: 'options',
}

/** Parameters that libpq or other drivers know and that change nothing here. */
const ignored = new Set([
  'connect_timeout',
  'client_encoding',
  'fallback_application_name',
  'target_session_attrs',
  'gssencmode',
  'channel_binding',
])

/** Reads `postgres://user:password@host:port/database?sslmode=…` or libpq's `host=… dbname=…`. Throws `invalid`/`PG_CONNECTION_STRING`. */
export function parseConnectionString(text: string): ConnectionParts {
  const values = /^postgres(ql)?:\/\//.test(text) ? urlValues(text) : keywordValues(text)
  const parts: Record<string, string> = {}
  for (const [name, value] of values) {
    const key = keys[name]
    if (key !== undefined) parts[key] = value
    else if (!ignored.has(name)) throw malformed(`unknown parameter${shown(name)}; known are ${Object.keys(keys).join(', ')}`)
  }
  const parsed = connectionParts.safeParse(parts)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw malformed(`${issue.path.join('.')}: ${issue.message}`)
  }
  return parsed.data
}

/** A name as a parameter may have one; what else stands there may be the rest of a password with a `?` in it. */
function shown(name: string): string {
  return /^[a-z_]{1,40}$/.test(name) ? ` "${name}"` : ''
}

/** One server that an address names. */
export interface Place {
  readonly host: string
  readonly port: number
}

/** The servers of `host` and `port`, each of which may be a list: as many ports as hosts, or one for all. Throws `invalid`/`PG_CONNECTION_STRING`. */
export function placesOf(host: string, port: number | string): Place[] {
  const hosts = host.split(',').map((one) => one.trim())
  const ports = String(port)
    .split(',')
    .map((one) => Number(one))
  if (hosts.includes('')) throw malformed('an empty host among several')
  if (ports.length !== 1 && ports.length !== hosts.length)
    throw malformed(`${hosts.length} hosts and ${ports.length} ports; give one for each`)
  if (!ports.every((one) => Number.isInteger(one) && one >= 1 && one <= 65535)) throw malformed('a port must be a number from 1 to 65535')
  return hosts.map((one, index) => ({ host: one, port: ports.length === 1 ? ports[0] : ports[index] }))
}

function urlValues(text: string): [string, string][] {
  // A host that is a directory is written percent-encoded, and may be missing altogether: both are no hosts to URL.
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text)
  if (!match) throw malformed('it does not read as postgres://user:password@host:port/database')
  const [, credentials, address = '', database, parameters] = match
  // Shown as a host, it would give away the rest of a password.
  if (address.includes('@')) throw malformed('an @ in a user or a password is written %40')
  const values: [string, string][] = []
  if (credentials !== undefined) {
    const colon = credentials.indexOf(':')
    values.push(['user', decode(colon < 0 ? credentials : credentials.slice(0, colon))])
    if (colon >= 0) values.push(['password', decode(credentials.slice(colon + 1))])
  }
  const places = address.split(',').map((one) => /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(one))
  if (places.includes(null)) throw malformed('it does not read as postgres://user:password@host:port/database')
  const host = places.map((place) => decode(place![1].replace(/^\[|\]$/g, ''))).join(',')
  if (host !== '') values.push(['host', host])
  const ports = places.map((place) => place![2] ?? '')
  if (ports.some((port) => port !== '')) values.push(['port', ports.map((port) => port || DEFAULT_PORT).join(',')])
  if (database) values.push(['dbname', decode(database)])
  for (const pair of (parameters ?? '').split('&').filter((piece) => piece !== '')) {
    const equals = pair.indexOf('=')
    values.push([decode(equals < 0 ? pair : pair.slice(0, equals)), equals < 0 ? '' : decode(pair.slice(equals + 1))])
  }
  return values
}

function keywordValues(text: string): [string, string][] {
  const values: [string, string][] = []
  const pattern = /\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)/gy
  let end = 0
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
    values.push([match[1], (match[2] ?? match[3] ?? '').replaceAll(/\\(.)/g, '$1')])
    end = pattern.lastIndex
  }
  if (values.length === 0 || text.slice(end).trim() !== '') throw malformed('write postgres://user:password@host:port/database')
  return values
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw malformed('a % that starts no escape; write %25 for the character itself', cause)
  }
}

/** The string itself may hold a password: it never gets into a message. */
function malformed(why: string, cause?: unknown): MoonlinkError {
  return new MoonlinkError('invalid', 'PG_CONNECTION_STRING', `the connection string is not understood: ${why}.`, { cause })
}
