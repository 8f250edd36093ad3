import { MoonlinkError } from '@moonlink/core'
import { z } from 'zod'
import type { Relation } from './mirrored-table.ts'

/** Raised whenever older decoders would misread a state. */
const VERSION = 1

const stateSchema = z.object({
  version: z.literal(VERSION),
  relations: z.array(
    z.object({
      oid: z.int().nonnegative(),
      schema: z.string(),
      name: z.string(),
      replicaIdentity: z.string(),
      /** Name, type, type modifier, key or not. */
      columns: z.array(z.tuple([z.string(), z.int().nonnegative(), z.int(), z.boolean()])),
    }),
  ),
})

/** The descriptions of relations as bytes, for a log of what follows them. */
export function encodeState(relations: readonly Relation[]): Uint8Array {
  const state: z.output<typeof stateSchema> = {
    version: VERSION,
    relations: relations.map(({ columns, ...rest }) => ({
      ...rest,
      columns: columns.map(({ name, typeOid, typmod, isKey }) => [name, typeOid, typmod, isKey]),
    })),
  }
  return Buffer.from(JSON.stringify(state))
}

/** Throws `corrupt`/`PGOUTPUT_STATE`. */
export function decodeState(state: Uint8Array): Relation[] {
  try {
    const { relations } = stateSchema.parse(JSON.parse(Buffer.from(state).toString()))
    return relations.map(({ columns, ...rest }) => ({
      ...rest,
      columns: columns.map(([name, typeOid, typmod, isKey]) => ({ name, typeOid, typmod, isKey })),
    }))
  } catch (error) {
    throw new MoonlinkError('corrupt', 'PGOUTPUT_STATE', "a decoder's state in the change log is not one this Moonlink can read.", {
      cause: error,
    })
  }
}
