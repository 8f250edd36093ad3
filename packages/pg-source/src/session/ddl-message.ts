import { z } from 'zod'
import { DDL_VERSION } from './ddl-sql.ts'
import { relationShape } from './relation-shape.ts'

const version = z.literal(DDL_VERSION)
const ddlMessage = z.discriminatedUnion('kind', [
  z.object({
    version,
    kind: z.literal('shape'),
    relation: relationShape,
    rewrite: z.object({ reason: z.number(), isPlain: z.boolean() }).nullable(),
  }),
  z.object({ version, kind: z.literal('dropped'), oid: z.number() }),
  z.object({ version, kind: z.literal('unknown'), reason: z.string() }),
])

/** What an event trigger of ours wrote: the shape that a table has now, that one is gone, or that it could not tell. */
export type DdlMessage = z.output<typeof ddlMessage>

/** Null for what no trigger of this version wrote: anybody may write messages of any prefix. */
export function parseDdlMessage(content: string): DdlMessage | null {
  try {
    return ddlMessage.parse(JSON.parse(content))
  } catch {
    return null
  }
}
