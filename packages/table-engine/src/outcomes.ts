import type { MoonlinkError } from '@moonlink/core'

/** What passes only once somebody allows it. */
const DENIALS: ReadonlySet<string> = new Set(['STORE_NOT_WRITABLE', 'STORE_NOT_READABLE', 'CATALOG_DENIED'])
/** What else a store or a catalog may have against one table alone. */
const FAILURES: ReadonlySet<string> = new Set([
  'CATALOG_BUSY',
  'CATALOG_NOT_FOUND',
  'CATALOG_REFUSED',
  'CATALOG_UNAVAILABLE',
  'COMMIT_CONFLICT',
  'COMMIT_UNKNOWN',
  'STORE_REFUSED',
  'STORE_UNAVAILABLE',
])
/** So long at least what is no denial has to last: a server that is restarted has answered by then. */
const FAILURE_PATIENCE_MS = 30_000

/** Whether store or catalog refuse what a table needs, or fail at it, by the code of the error or a reason that begins with that. It may be over without a change to the table. */
export function isRefusal(reason: string): boolean {
  const [code] = reason.split(' ', 1)
  return DENIALS.has(code) || FAILURES.has(code)
}

/** How something that the table needs of its store or catalog is refused since the last time that it was not. */
export interface Refusal {
  readonly sinceMs: number
  /** When the last one was. */
  readonly lastMs: number
  readonly code: string
  readonly message: string
  /** True where changes of all tables wait for it. */
  readonly holdsOthers?: boolean
}

/** For how long a refusal is waited for, where that is `patienceMs` for a missing permission. */
export function patienceFor({ code, holdsOthers }: Refusal, patienceMs: number): number {
  if (holdsOthers === true) return FAILURE_PATIENCE_MS
  return DENIALS.has(code) ? patienceMs : Math.max(patienceMs, FAILURE_PATIENCE_MS)
}

/** How what one table needs of its store and catalog went: its commits and its copy, or the reads for its changes. */
export class Outcomes {
  private lastRefusal: Refusal | null = null
  private lastAllowedMs: number | null = null

  /** Null where the last attempt did not end so. */
  get refusal(): Refusal | null {
    return this.lastRefusal
  }

  /** When this process last saw that nothing is refused. */
  get allowedAtMs(): number | null {
    return this.lastAllowedMs
  }

  /** Something else needs the same permissions, and had them. */
  allowed(nowMs: number): void {
    this.lastAllowedMs = nowMs
  }

  /** It is not refused any more, or not wanted. That says nothing of all that commits need. */
  over(): void {
    this.lastRefusal = null
  }

  succeeded(nowMs: number): void {
    this.over()
    this.allowed(nowMs)
  }

  failed({ code, message }: MoonlinkError, nowMs: number): void {
    this.lastRefusal = isRefusal(code) ? { sinceMs: this.lastRefusal?.sinceMs ?? nowMs, lastMs: nowMs, code, message } : null
  }
}
