import { MoonlinkError } from '@moonlink/core'
import { z } from 'zod'

/** libpq's meaning: `require` encrypts without verifying, `verify-ca` checks the authority, `verify-full` the host name too. */
const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
export type SslMode = (typeof sslModes)[number]

/** Where Postgres is. What is left out comes from the `PG*` variables, a password also from `~/.pgpass`. */
export const connectionParts = z.strictObject({
  host: z.string().optional().describe('Host name, address, or directory of a unix socket.'),
  port: z.coerce.number().int().min(1).max(65535).optional(),
  user: z.string().optional(),
  password: z.string().optional(),
  database: z.string().optional(),
  sslmode: z.enum(sslModes).optional().describe('Default: verify-full, and prefer for this machine itself. Meanings as in libpq.'),
  sslrootcert: z.string().optional().describe("File of trusted authorities (PEM), or `system`. Default: the runtime's own list."),
  sslcert: z.string().optional().describe('File of the client certificate.'),
  sslkey: z.string().optional().describe('File of its key.'),
  applicationName: z.string().optional(),
  options: z.string().optional().describe('Server settings for the session, as in libpq: -c name=value'),
})
export type ConnectionParts = z.infer<typeof connectionParts>

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
    else if (!ignored.has(name)) throw malformed(`unknown parameter "${name}"; known are ${Object.keys(keys).join(', ')}`)
  }
  const parsed = connectionParts.safeParse(parts)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw malformed(`${issue.path.join('.')}: ${issue.message}`)
  }
  if (parsed.data.host?.includes(',')) throw malformed('several hosts; name one, the primary')
  return parsed.data
}

function urlValues(text: string): [string, string][] {
  // A host that is a directory is written percent-encoded, and may be missing altogether: both are no hosts to URL.
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text)
  if (!match) throw malformed('it does not read as postgres://user:password@host:port/database')
  const [, credentials, address = '', database, parameters] = match
  const values: [string, string][] = []
  if (credentials !== undefined) {
    const colon = credentials.indexOf(':')
    values.push(['user', decode(colon < 0 ? credentials : credentials.slice(0, colon))])
    if (colon >= 0) values.push(['password', decode(credentials.slice(colon + 1))])
  }
  const place = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(address)
  if (!place && !address.includes(',')) throw malformed('it does not read as postgres://user:password@host:port/database')
  const host = place ? place[1] : address
  if (host !== '') values.push(['host', decode(host.replace(/^\[|\]$/g, ''))])
  if (place?.[2]) values.push(['port', place[2]])
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
