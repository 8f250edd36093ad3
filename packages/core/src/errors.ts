/**
 * What the caller should do:
 * - `retry`: the same call may succeed later (a lost connection, a busy server);
 * - `conflict`: somebody else changed the thing; load it again and decide anew;
 * - `fenced`: another owner took over; stop;
 * - `invalid`: the input, the configuration or the source's state has to change first; the message says how;
 * - `corrupt`: stored or received bytes are not what they must be; do not use them;
 * - `bug`: an invariant of Moonlink itself is broken.
 */
export type ErrorKind = 'retry' | 'conflict' | 'fenced' | 'invalid' | 'corrupt' | 'bug'

/** What an error carries besides its message. */
export interface ErrorDetails {
  /** Values a person or a program needs to find the thing. Never secrets. */
  readonly context?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
}

/** The one error class. `code` is stable and meant for programs; `message` is one line that names the thing and the remedy. */
export class MoonlinkError extends Error {
  readonly kind: ErrorKind
  readonly code: string
  readonly context: Readonly<Record<string, unknown>>

  constructor(kind: ErrorKind, code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'MoonlinkError'
    this.kind = kind
    this.code = code
    this.context = details.context ?? {}
  }
}

/** Whether it is one of ours; with `kind`, of that kind. */
export function isMoonlinkError(error: unknown, kind?: ErrorKind): error is MoonlinkError {
  return error instanceof MoonlinkError && (kind === undefined || error.kind === kind)
}

/** States an invariant of our own code. A failure is a bug, never bad input. */
export function assert(condition: unknown, what: string, context?: Readonly<Record<string, unknown>>): asserts condition {
  if (!condition) throw new MoonlinkError('bug', 'ASSERTION', `invariant broken: ${what}`, context ? { context } : {})
}
