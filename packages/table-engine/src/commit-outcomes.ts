import type { MoonlinkError } from '@moonlink/core'

/** What passes only once somebody allows it. */
const DENIALS: ReadonlySet<string> = new Set(['STORE_NOT_WRITABLE', 'STORE_NOT_READABLE', 'CATALOG_DENIED'])

/** Whether what failed lacks a permission, by its code or by a reason that begins with that. */
export function isDenial(reason: string): boolean {
  return DENIALS.has(reason.split(' ', 1)[0])
}

/** Since when commits are refused for a missing permission, and how. */
export interface Denial {
  readonly sinceMs: number
  readonly code: string
  readonly message: string
}

/** How the commits of one table went. */
export class CommitOutcomes {
  private lastDenial: Denial | null = null
  private lastAllowedMs: number | null = null

  /** Null where the last attempt did not end so. */
  get denial(): Denial | null {
    return this.lastDenial
  }

  /** When this process last saw that nothing is refused. */
  get allowedAtMs(): number | null {
    return this.lastAllowedMs
  }

  /** Something else needs the same permissions, and had them. */
  allowed(nowMs: number): void {
    this.lastAllowedMs = nowMs
  }

  succeeded(nowMs: number): void {
    this.lastDenial = null
    this.allowed(nowMs)
  }

  failed({ code, message }: MoonlinkError, nowMs: number): void {
    this.lastDenial = isDenial(code) ? { sinceMs: this.lastDenial?.sinceMs ?? nowMs, code, message } : null
  }
}
