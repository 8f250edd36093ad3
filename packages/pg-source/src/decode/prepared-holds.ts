import { minLsn, type Lsn } from '@moonlink/core'
import type { PreparePoint } from './stream-messages.ts'

/** A prepared transaction. Global ids are used again once free, so the transaction's own id belongs to it. */
type Prepared = Pick<PreparePoint, 'gid' | 'xid'>

/** Prepared transactions whose changes are not known to be safe: the server sends each only once, where it is prepared. */
export class PreparedHolds {
  private readonly held = new Map<string, { readonly prepareLsn: Lsn; endLsn: Lsn | null }>()

  prepared(point: PreparePoint): void {
    this.held.set(holdKey(point), { prepareLsn: point.prepareLsn, endLsn: null })
  }

  /** `endLsn`: where its commit ends, behind which its changes are. */
  committed(prepared: Prepared, endLsn: Lsn): void {
    const hold = this.held.get(holdKey(prepared))
    if (hold !== undefined) hold.endLsn = endLsn
  }

  rolledBack(prepared: Prepared): void {
    this.held.delete(holdKey(prepared))
  }

  /** What the server may be told of when `durable` is safe: nothing after the prepare of a transaction whose commit is not. */
  acknowledgeable(durable: Lsn): Lsn {
    let lsn = durable
    for (const [key, { prepareLsn, endLsn }] of this.held) {
      if (endLsn !== null && endLsn <= durable) this.held.delete(key)
      else lsn = minLsn(lsn, prepareLsn)
    }
    return lsn
  }
}

function holdKey({ gid, xid }: Prepared): string {
  return `${xid} ${gid}`
}
