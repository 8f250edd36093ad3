import type { Environment } from './environment.ts'

interface UrlParts {
  readonly user: string
  readonly host: string
  readonly database: string
  readonly query: URLSearchParams
}

/** Completes a source URL with what it leaves out, from the plain `PG*` variables. They never name a source by themselves. */
export function completeSourceUrl(url: string, environment: Environment): string {
  const parts = splitUrl(url)
  if (parts === null) return url
  const { query } = parts
  const value = (name: string) => environment[name] || undefined
  let [user, password] = splitOnce(parts.user, ':')
  if (user === '' && !query.has('user')) user = encodeURIComponent(value('PGUSER') ?? '')
  if (password === undefined && !query.has('password') && value('PGPASSWORD') !== undefined)
    password = encodeURIComponent(value('PGPASSWORD')!)
  let [host, port] = splitHost(parts.host)
  if (host === '' && !query.has('host')) {
    const named = value('PGHOST')
    if (named?.startsWith('/')) query.set('host', named)
    else host = named ?? 'localhost'
  }
  if (port === undefined && !query.has('port')) port = value('PGPORT')
  const database = parts.database === '' ? encodeURIComponent(value('PGDATABASE') ?? '') : parts.database
  if (!query.has('sslmode') && value('PGSSLMODE') !== undefined) query.set('sslmode', value('PGSSLMODE')!)
  const account = user === '' && password === undefined ? '' : `${user}${password === undefined ? '' : `:${password}`}@`
  const search = query.size === 0 ? '' : `?${query.toString()}`
  return `postgres://${account}${host}${port === undefined ? '' : `:${port}`}/${database}${search}`
}

/** The URL without its password, for messages and logs. */
export function redactUrl(url: string): string {
  const parts = splitUrl(url)
  if (parts === null) return 'the source URL'
  const [user] = splitOnce(parts.user, ':')
  parts.query.delete('password')
  const search = parts.query.size === 0 ? '' : `?${parts.query.toString()}`
  return `postgres://${user === '' ? '' : `${user}@`}${parts.host}/${parts.database}${search}`
}

// By hand, not by `URL`: a user with an empty host (a socket directory in the query) is no URL to it.
function splitUrl(url: string): UrlParts | null {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url)
  if (!match) return null
  return { user: match[1] ?? '', host: match[2] ?? '', database: match[3] ?? '', query: new URLSearchParams(match[4] ?? '') }
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function splitHost(text: string): [string, string | undefined] {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(text)
  return match ? [match[1], match[2]] : [text, undefined]
}
