import type { Clock } from '@moonlink/core'
import type { ShapeQuestion } from '../decode/index.ts'
import type { CatalogConnection } from './connect.ts'
import { RELATION_SHAPE, type RelationShape } from './relation-shape.ts'

/** What the catalog says of a table at some time after a change of it. */
export interface CatalogLook {
  /** Null where the table is not there any more. */
  readonly relation: RelationShape | null
}

const RETRY_MS = 5

const LOOK = `SELECT pg_current_snapshot()::text AS snapshot,
  (SELECT ${RELATION_SHAPE} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::int8::oid AND c.relkind IN ('r', 'p')) AS relation`

/**
 * The catalog with at least what the question's transaction made of it: a server sends a transaction a moment before others see it, which with synchronous
 * replication may be long.
 */
export async function lookAtCatalog(
  connection: Pick<CatalogConnection, 'rows'>,
  { relation: { oid }, xid }: Pick<ShapeQuestion, 'relation' | 'xid'>,
  clock: Clock,
  signal: AbortSignal,
): Promise<CatalogLook> {
  for (;;) {
    const [{ snapshot, relation }] = await connection.rows<CatalogLook & { snapshot: string }>(LOOK, [oid])
    if (isSeen(xid, snapshot)) return { relation }
    await clock.sleep(RETRY_MS, signal)
  }
}

/** Whether a snapshot (`xmin:xmax:xip,…`) shows what a transaction did that is known to have committed; `xid` without its epoch. */
export function isSeen(xid: number, snapshot: string): boolean {
  const [, end, running] = snapshot.split(':')
  if (((xid - low(end)) | 0) >= 0) return false
  return running === '' || !running.split(',').some((id) => low(id) === xid)
}

function low(id: string): number {
  return Number(BigInt.asUintN(32, BigInt(id)))
}
