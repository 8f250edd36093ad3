import { MoonlinkError } from '@moonlink/core'
import { canonical, type ServerTypes, type TypePolicy } from '../types/index.ts'
import { NO_ENCODING, type CatalogConnection } from './connect.ts'

/** Reads what the forms of some types depend on. Throws `invalid`/`TYPE_UNKNOWN` where the policy names a type that is not there. */
export async function readServerTypes(connection: CatalogConnection, policy: TypePolicy): Promise<ServerTypes> {
  // The bytes of one unit of money are the number of its parts, a power of ten.
  const [row] = await connection.rows<{ money: string; lsn: string; encoding: string }>(
    `SELECT encode(cash_send('1'::numeric::money), 'hex') AS money, '0/1'::pg_lsn::text AS lsn, current_setting('server_encoding') AS encoding`,
  )
  await refuseUnknown(connection, Object.keys(policy.types))
  return {
    moneyScale: BigInt(`0x${row.money}`).toString().length - 1,
    hasPaddedLsn: row.lsn.length > 3,
    hasAnyBytes: row.encoding === NO_ENCODING,
  }
}

async function refuseUnknown(connection: CatalogConnection, names: readonly string[]): Promise<void> {
  if (names.length === 0) return
  const plain = names.map((name) => canonical(name).replace(/(\[\])+$/, ''))
  const found = await connection.rows<{ name: string }>(
    `SELECT unknown.name FROM unnest($1::text[]) AS unknown(name) WHERE NOT EXISTS (
       SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE unknown.name IN (t.typname, n.nspname || '.' || t.typname))`,
    [plain],
  )
  const [unknown] = found
  if (unknown === undefined) return
  throw new MoonlinkError(
    'invalid',
    'TYPE_UNKNOWN',
    `source.types: the database has no type ${unknown.name}. Write a name as pg_type has it (timestamptz, int4[], public.mood), or take it out.`,
    { context: { type: unknown.name } },
  )
}
