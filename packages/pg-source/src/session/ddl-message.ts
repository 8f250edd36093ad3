import { parseLsn } from '@moonlink/core'
import { z } from 'zod'
import { objectId, relationShape, shapeType } from './relation-shape.ts'
import { DDL_VERSION } from './told-since.ts'

/** What triggers of version 3 tell is told alike; they tell less. */
const version = z.union([z.literal(3), z.literal(DDL_VERSION)])
const teller = {
  version,
  /** `xid8` of the transaction. */
  xid: z.string().regex(/^\d{1,20}$/),
  /** What it saw: `xmin:xmax:xip,…` (`pg_snapshot`). */
  snapshot: z.string().regex(/^\d{1,20}:\d{1,20}:[\d,]*$/),
  /** Where the log was before the snapshot was taken. */
  sinceLsn: z
    .string()
    .regex(/^[\dA-F]{1,8}\/[\dA-F]{1,8}$/)
    .transform(parseLsn),
  /** The snapshot was taken for the message; others are as old as their transaction may be. */
  isFresh: z.boolean(),
}
const ddlMessage = z.discriminatedUnion('kind', [
  z.object({
    ...teller,
    kind: z.literal('shape'),
    relation: relationShape,
    rewrite: z.object({ reason: z.int(), isPlain: z.boolean() }).nullable(),
  }),
  /** `types`: those altered, and what they are made of. */
  z.object({ ...teller, kind: z.literal('types'), altered: z.array(objectId), types: z.array(shapeType) }),
  /** `tables`: partitioned tables by object id, with their `attached` after the command. */
  z.object({ version, kind: z.literal('partitions'), command: z.string(), tables: z.record(z.string(), z.string()) }),
  /** Rows of a partition went or came that are not streamed. `above`: object ids of what it is a part of. */
  z.object({ version, kind: z.literal('rows'), reason: z.string(), above: z.array(objectId) }),
  z.object({ version, kind: z.literal('dropped'), oid: objectId }),
  z.object({ version, kind: z.literal('unknown'), reason: z.string() }),
])

/** What an event trigger of ours wrote: the shape that a table has now, what types are now, which partitions tables have, that rows of one went or came unseen, that a table is gone, or that it could not tell. */
export type DdlMessage = z.output<typeof ddlMessage>

const ofAnotherVersion = z.object({ version: z.number(), kind: z.string() })

/**
 * Null for what no trigger of ours wrote: anybody may write messages of any prefix. What triggers of another version wrote tells that something changed, and no
 * more.
 */
export function parseDdlMessage(content: string): DdlMessage | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(content)
  } catch {
    return null
  }
  const message = ddlMessage.safeParse(parsed)
  if (message.success) return message.data
  const other = ofAnotherVersion.safeParse(parsed)
  if (!other.success || version.safeParse(other.data.version).success) return null
  const reason = `the event triggers are of version ${other.data.version}, and this Moonlink reads ${DDL_VERSION}: run moonlink ddl install again`
  return { version: DDL_VERSION, kind: 'unknown', reason }
}
