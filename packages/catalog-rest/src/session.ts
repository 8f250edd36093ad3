import { MoonlinkError, type TableIdentifier } from '@moonlink/core'
import { readConfig } from './answers.ts'
import type { HttpClient } from './http-client.ts'
import type { Credentials } from './http-message.ts'
import type { Settings } from './options.ts'

/** What `GET /v1/config` settles for all later requests. */
export interface Session {
  readonly credentials: Credentials
  /** `/v1` and the prefix the server wants, if any. */
  readonly base: string
  /** The server's separator of namespace levels, decoded. One-level names must not hold it. */
  readonly separator: string
}

const DEFAULT_SEPARATOR = '%1F'

/** Asks the server for its configuration and merges it: its defaults < the client's properties < its overrides. */
export async function openSession(http: HttpClient, settings: Settings): Promise<Session> {
  const first: Credentials = { token: settings.token, headers: settings.headers }
  const query = settings.warehouse === null ? '' : `?warehouse=${encodeURIComponent(settings.warehouse)}`
  const answer = await http.send({ method: 'GET', path: `/v1/config${query}`, idempotent: true }, first)
  const { defaults, overrides } = readConfig(answer.body)
  const own: Record<string, string> = { ...settings.properties, ...(settings.token === null ? {} : { token: settings.token }) }
  const merged: Readonly<Record<string, string | undefined>> = { ...defaults, ...own, ...overrides }
  const prefix = merged['prefix']
  return {
    credentials: { token: merged['token'] ?? null, headers: { ...prefixedHeaders(merged), ...settings.headers } },
    // A prefix may have several segments (`catalogs/a`); it goes into the path as the server wrote it.
    base: prefix === undefined || prefix === '' ? '/v1' : `/v1/${prefix.replaceAll(/^\/+|\/+$/g, '')}`,
    separator: decodeSeparator(merged['namespace-separator'] ?? DEFAULT_SEPARATOR),
  }
}

/** `header.NAME` in the configuration is a header to send. */
function prefixedHeaders(merged: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [key, value] of Object.entries(merged)) {
    if (key.startsWith('header.') && value !== undefined) headers[key.slice('header.'.length)] = value
  }
  return headers
}

function decodeSeparator(separator: string): string {
  try {
    return decodeURIComponent(separator)
  } catch {
    return separator
  }
}

export function namespacePath(session: Session, namespace: string): string {
  return `${session.base}/namespaces/${segment(namespace, [session.separator])}`
}

export function tablePath(session: Session, table: TableIdentifier): string {
  return `${namespacePath(session, table.namespace)}/tables/${segment(table.name, [])}`
}

/** A name as one segment of a path. `.` and `..` would be resolved away, even percent-encoded. */
function segment(name: string, refused: readonly string[]): string {
  if (name !== '' && name !== '.' && name !== '..' && !refused.some((text) => name.includes(text))) return encodeURIComponent(name)
  throw new MoonlinkError('invalid', 'NAME_UNSUPPORTED', `a REST catalog cannot hold the name "${name}"; rename the schema or table.`, {
    context: { name },
  })
}
