import { isJsonObject, isMoonlinkError, MoonlinkError, parseJsonLossless, type ErrorKind, type JsonValue } from '@moonlink/core'
import type { Credentials, HttpRequest } from './http-message.ts'

/** What the request was, without its body, which may be large. */
type Sent = Pick<HttpRequest, 'method' | 'path'>

const MESSAGE_LENGTH = 400

/** Errors of a connection that was never made, so that the server did nothing. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
])

/** Errors of a certificate that does not hold; they pass only when somebody changes something. */
const CERTIFICATE = /CERT|UNABLE_TO_(GET|VERIFY)|ERR_TLS/

/** An answer whose status is not 2xx. */
export function answerError(sent: Sent, uri: string, status: number, text: string, credentials: Credentials): MoonlinkError {
  const { message, type } = readErrorBody(text, credentials)
  const said = message === null ? '' : `: ${message}`
  const what = `${sent.method} ${uri}${sent.path}`
  const make = (kind: ErrorKind, code: string, line: string) =>
    new MoonlinkError(kind, code, line, {
      context: { method: sent.method, uri: uri + sent.path, status, type, mayHaveHappened: status >= 500 },
    })
  if (status === 401 || status === 403 || status === 419) {
    const remedy =
      credentials.token === null
        ? 'no token is set; set one'
        : status === 403
          ? "give the token's principal the privilege"
          : 'is the token right and still valid?'
    return make('invalid', 'CATALOG_DENIED', `the catalog refused ${what} (${status})${said}; ${remedy}.`)
  }
  if (status === 409) return make('conflict', 'CATALOG_CONFLICT', `the catalog found a conflict in ${what}${said}.`)
  if (status === 429) return make('retry', 'CATALOG_BUSY', `the catalog asks to slow down (429) on ${what}${said}.`)
  if (status >= 500) return make('retry', 'CATALOG_UNAVAILABLE', `the catalog failed (${status}) on ${what}${said}.`)
  if (status === 404 && type === null)
    return make('invalid', 'CATALOG_NOT_FOUND', `${what} is not served there (404); check the catalog's URI and warehouse.`)
  return make('invalid', 'CATALOG_REFUSED', `the catalog refused ${what} (${status})${said}.`)
}

export function timedOut(sent: Sent, uri: string, timeoutMs: number): MoonlinkError {
  return new MoonlinkError(
    'retry',
    'CATALOG_UNAVAILABLE',
    `the catalog did not answer ${sent.method} ${uri}${sent.path} in ${timeoutMs} ms.`,
    {
      context: { method: sent.method, uri: uri + sent.path, status: null, type: null, mayHaveHappened: true },
    },
  )
}

/** What `fetch` rejected with: no answer came. */
export function networkError(sent: Sent, uri: string, error: unknown): MoonlinkError {
  const code = networkCode(error)
  const details = {
    context: { method: sent.method, uri: uri + sent.path, status: null, type: null, mayHaveHappened: !NOT_SENT.has(code) },
    cause: error,
  }
  if (CERTIFICATE.test(code)) {
    const remedy = 'renew it, or name its authority in NODE_EXTRA_CA_CERTS'
    return new MoonlinkError('invalid', 'CATALOG_CERTIFICATE', `the certificate of ${uri} does not hold (${code}): ${remedy}.`, details)
  }
  const line = NOT_SENT.has(code)
    ? `cannot reach the catalog at ${uri} (${code}): is it running there?`
    : `lost the connection to the catalog at ${uri} (${code}).`
  return new MoonlinkError('retry', 'CATALOG_UNAVAILABLE', line, details)
}

function networkCode(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ('code' in at && typeof at.code === 'string') return at.code
  }
  return error instanceof Error ? error.message : 'unknown'
}

/** Reads `{"error": {"message", "type", "code"}}`; both null where the body is something else, such as a proxy's page. */
function readErrorBody(text: string, credentials: Credentials): { readonly message: string | null; readonly type: string | null } {
  const body = parsedOrNull(text)
  const error = isJsonObject(body) ? body['error'] : undefined
  if (!isJsonObject(error)) return { message: null, type: null }
  const { message, type } = error
  return {
    message: typeof message === 'string' ? oneLine(message, credentials) : null,
    type: typeof type === 'string' && type !== '' ? type : 'unnamed',
  }
}

function parsedOrNull(text: string): JsonValue {
  try {
    return parseJsonLossless(text)
  } catch (error) {
    if (isMoonlinkError(error, 'corrupt')) return null
    throw error
  }
}

/** Servers answer with whole stack traces, and may echo what was sent. */
function oneLine(message: string, credentials: Credentials): string {
  let line = message.replaceAll(/\s+/g, ' ').trim()
  const secrets = [credentials.token, ...Object.values(credentials.headers)]
  for (const secret of secrets) if (secret !== null && secret.length >= 6) line = line.replaceAll(secret, '***')
  line = line.replace(/\.$/, '')
  return line.length > MESSAGE_LENGTH ? `${line.slice(0, MESSAGE_LENGTH)}…` : line
}
