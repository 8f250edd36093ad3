import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { MoonlinkError } from '@moonlink/core'
import type { ConnectionParts, SslMode } from './connection-config.ts'

/** How a connection is to be encrypted: what `pg` takes, and whether to go on in the clear where the server has no TLS. */
export interface TlsPlan {
  readonly mode: SslMode
  readonly ssl: ConnectionOptions | false
  readonly mayFallBack: boolean
}

/**
 * libpq's modes. Where none is given, this machine's own servers get `prefer`, all others `verify-full`: encryption that is not
 * verified protects from nobody who could listen in the first place.
 */
export function planTls(parts: ConnectionParts, host: string): TlsPlan {
  const isSocket = host.startsWith('/')
  const mode = parts.sslmode ?? (isSocket || isLoopback(host) ? 'prefer' : 'verify-full')
  if (mode === 'disable' || isSocket) return { mode, ssl: false, mayFallBack: false }
  const hasRoot = parts.sslrootcert !== undefined && parts.sslrootcert !== 'system'
  const files = {
    ...(hasRoot ? { ca: readPem('sslrootcert', parts.sslrootcert) } : {}),
    ...(parts.sslcert === undefined ? {} : { cert: readPem('sslcert', parts.sslcert) }),
    ...(parts.sslkey === undefined ? {} : { key: readPem('sslkey', parts.sslkey) }),
  }
  if (mode === 'verify-ca' && !hasRoot) {
    throw new MoonlinkError(
      'invalid',
      'PG_TLS',
      'sslmode=verify-ca needs sslrootcert. Name the file of your authority, or use sslmode=verify-full.',
    )
  }
  const ssl = { ...files, ...verification(mode, hasRoot) }
  return { mode, ssl, mayFallBack: mode === 'prefer' }
}

function verification(mode: SslMode, hasRoot: boolean): ConnectionOptions {
  if (mode === 'verify-full') return { rejectUnauthorized: true }
  // As in libpq, a root certificate makes `require` verify the authority.
  const verifiesAuthority = mode === 'verify-ca' || (mode === 'require' && hasRoot)
  return verifiesAuthority ? { rejectUnauthorized: true, checkServerIdentity: () => undefined } : { rejectUnauthorized: false }
}

function readPem(option: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new MoonlinkError('invalid', 'PG_TLS', `${option}: ${path} can't be read. Name a PEM file that this user may read.`, { cause })
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}
