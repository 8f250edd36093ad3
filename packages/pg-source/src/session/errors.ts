import { isMoonlinkError, MoonlinkError, type ErrorKind } from '@moonlink/core'
import pg from 'pg'

/** Where we were going; for messages. Holds no secrets. */
export interface Target {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
}

/** Whether a lock was not had within `lock_timeout`. */
export function isLockTimeout(error: unknown): boolean {
  return sqlState(error instanceof MoonlinkError ? error.cause : error) === '55P03'
}

export function sqlState(error: unknown): string | null {
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null
}

/** An error's text as one line. */
export function messageOf(error: unknown): string {
  const text =
    error instanceof AggregateError && error.errors.length > 0
      ? messageOf(error.errors[0])
      : error instanceof Error
        ? error.message
        : String(error)
  return text.trim().replaceAll(/\s*\n\s*/g, ' ')
}

/** Says why a connection could not be made, and what to do about it. */
export function connectionError(error: unknown, target: Target): MoonlinkError {
  if (error instanceof MoonlinkError) return error
  const where = `${target.host}:${target.port}`
  const context = { ...target }
  const made = (kind: ErrorKind, code: string, message: string) => new MoonlinkError(kind, code, message, { context, cause: error })
  const text = messageOf(error)
  const state = sqlState(error)
  if (state !== null) return startupError(state, text, target, made)
  const code = systemCode(error)
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return made('retry', 'PG_UNREACHABLE', `no host is called ${target.host}. Check the host in the source's address.`)
  }
  if (code === 'ENOENT' || code === 'EACCES') {
    return made(
      'retry',
      'PG_UNREACHABLE',
      `no Postgres answers at the socket in ${target.host} (${text}). Check that it runs and that this user may enter the directory.`,
    )
  }
  if (/SSL|TLS|certificate|altnames|self.signed/i.test(`${code ?? ''} ${text}`)) return tlsError(text, where, made)
  if (/SASL|password must be/i.test(text)) {
    return made(
      'invalid',
      'PG_AUTH',
      `${where} wants a password for user "${target.user}" and none was given. Put it into the source's address or PGPASSWORD.`,
    )
  }
  return made(
    'retry',
    'PG_UNREACHABLE',
    `can't reach Postgres at ${where}: ${text || code}. Check host and port, that it runs, and that it listens there (listen_addresses, firewall).`,
  )
}

/** Passwords, certificates and rights change while we run: whoever was let in before tries again, and says what is wrong until then. */
export function refusedMeanwhile(error: unknown): unknown {
  if (!isMoonlinkError(error, 'invalid')) return error
  const { cause, code, context, message } = error
  return new MoonlinkError('retry', code, `${message} It is tried again until it is let in.`, { context, cause })
}

type Make = (kind: ErrorKind, code: string, message: string) => MoonlinkError

function startupError(state: string, text: string, target: Target, made: Make): MoonlinkError {
  const where = `${target.host}:${target.port}`
  const role = pg.escapeIdentifier(target.user)
  switch (state) {
    case '28P01':
      return made(
        'invalid',
        'PG_AUTH',
        `${where} refuses the password of user "${target.user}". Correct it in the source's address or PGPASSWORD.`,
      )
    case '28000':
      if (/pg_hba/.test(text)) {
        return made(
          'invalid',
          'PG_HBA',
          `${where} lets nobody in this way: ${text}. Add a line for user "${target.user}" and database "${target.database}" to its pg_hba.conf.`,
        )
      }
      if (/not permitted to log in/.test(text)) {
        return made(
          'invalid',
          'PG_AUTH',
          `${where} does not let user "${target.user}" log in: ${text}. Let a superuser run ALTER ROLE ${role} LOGIN.`,
        )
      }
      return made(
        'invalid',
        'PG_AUTH',
        `${where} does not let user "${target.user}" log in: ${text}. Check the user in the source's address.`,
      )
    case '3D000':
      return made(
        'invalid',
        'PG_DATABASE_MISSING',
        `${where} has no database "${target.database}". Name one that exists (psql -l lists them).`,
      )
    case '42501':
      if (/replication|wal ?sender/i.test(text)) {
        return made(
          'invalid',
          'PG_REPLICATION_PRIVILEGE',
          `user "${target.user}" may not replicate. Let a superuser run: ALTER ROLE ${role} REPLICATION (on Amazon RDS: GRANT rds_replication TO ${role}).`,
        )
      }
      return made(
        'invalid',
        'PG_CONNECT_PRIVILEGE',
        `user "${target.user}" may not use database "${target.database}": ${text}. GRANT CONNECT ON DATABASE ${pg.escapeIdentifier(target.database)} TO ${role}.`,
      )
    case '53300':
      if (/max_wal_senders/.test(text)) {
        return made(
          'retry',
          'PG_SENDERS_EXHAUSTED',
          `${where} has no replication connection left. Raise max_wal_senders and restart it, or stop a replica that is not needed.`,
        )
      }
      return made('retry', 'PG_TOO_MANY_CONNECTIONS', `${where} has no connection left: ${text}. Raise max_connections or close some.`)
    case '08P01':
      return made(
        'invalid',
        'PG_POOLER',
        `${where} does not speak all of Postgres' protocol: ${text}. A connection pooler can't replicate: give the address of the server itself.`,
      )
    case '57P03':
      return made('retry', 'PG_STARTING', `${where} is starting, stopping or recovering: ${text}. Try again in a moment.`)
    default:
      return made(mayPass(state) ? 'retry' : 'invalid', 'PG_CONNECT', `${where} refuses the connection: ${text} (${state}).`)
  }
}

function tlsError(text: string, where: string, made: Make): MoonlinkError {
  if (/does not support SSL/.test(text)) {
    return made(
      'invalid',
      'PG_TLS',
      `${where} offers no TLS. Switch it on in the server (ssl = on), or accept an open connection with sslmode=disable.`,
    )
  }
  return made(
    'invalid',
    'PG_TLS',
    `the certificate of ${where} can't be verified: ${text}. Name its authority with sslrootcert=FILE, or encrypt without verifying with sslmode=require.`,
  )
}

function systemCode(error: unknown): string | null {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  const code = (first as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : null
}

/** Classes and codes of SQLSTATE after which the same may work a moment later (errcodes.txt): */
const PASSING = [
  '08', // the connection broke
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
  '40', // a serialization failure, a deadlock
  '53', // no memory, no disk, no connection left
  '55P03', // lock_timeout
  '57', // a statement or idle time-out, or the server was told to stop us
]

/** Whether what the server refused may work a moment later. */
export function mayPass(state: string): boolean {
  // A limit of the configuration, such as the number of slots, stays.
  return state !== '53400' && PASSING.some((prefix) => state.startsWith(prefix))
}

/** The connection is there, yet a time-out, a deadlock or somebody ended what ran on it. */
function isCutOff(state: string | null): boolean {
  return state === '57014' || state === '55P03' || state?.startsWith('40') === true
}

/** A server that follows another refuses what only a primary can do. */
export function isRecovering(text: string): boolean {
  return /(in|during) recovery|recovery is in progress|being synchroni[sz]ed from the primary/.test(text)
}

/** The address leads to a standby, as it may for a moment before that is promoted. */
export function standbyError(cause?: unknown): MoonlinkError {
  return new MoonlinkError(
    'retry',
    'PG_STANDBY',
    'the address leads to a standby. Mirroring goes on once it is promoted, or the address leads to the primary.',
    { cause },
  )
}

/** Wraps what went wrong on a connection that worked before. Server errors that a change of ours must precede are `invalid`. */
export function lostConnection(doing: string, error: unknown): MoonlinkError {
  if (error instanceof MoonlinkError) return error
  const state = sqlState(error)
  const text = messageOf(error)
  if (state !== null && isRecovering(text)) return standbyError(error)
  if (state === null || mayPass(state)) {
    const what = isCutOff(state) ? 'Postgres cut off a statement' : 'lost the connection to Postgres'
    return new MoonlinkError('retry', 'PG_CONNECTION_LOST', `${what} while ${doing}: ${text}.`, { cause: error })
  }
  if (state === '42501' && /row-level security/.test(text)) {
    return new MoonlinkError(
      'invalid',
      'PG_SELECT_PRIVILEGE',
      `${text}: rows would be missing. Let a superuser run ALTER ROLE … BYPASSRLS.`,
      {
        cause: error,
      },
    )
  }
  if (state === '22021' || state === '22P05') {
    return new MoonlinkError(
      'invalid',
      'PG_ENCODING',
      `Postgres could not send a text while ${doing}: ${text}. Change it in the source to one that UTF-8 has. What is in the log already is passed over only by a new slot: drop this one (pg_drop_replication_slot) and start again: the tables are compared then, a paused one by moonlink tables resync.`,
      { cause: error },
    )
  }
  return new MoonlinkError('invalid', 'PG_STATEMENT', `Postgres refused while ${doing}: ${text} (${state}).`, { cause: error })
}
