import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseJsonLossless } from '@moonlink/core'
import type { TestDatabase } from '@moonlink/testkit'
import { expect } from 'vitest'
import type { BackendProcess } from './backend-process.ts'
import { readEach } from './readers.ts'
import type { Found } from './time-travel.ts'

/** What Postgres showed of `public.t`, kept in the table `past.moment_<index>`, and the Iceberg snapshot made then. */
export interface Moment {
  readonly columns: Found['columns']
  readonly metadata: string
  readonly snapshotId: string
}

const icebergTypes: Readonly<Record<string, string>> = {
  integer: 'int',
  bigint: 'long',
  real: 'float',
  'double precision': 'double',
  text: 'string',
  'character varying': 'string',
  mood: 'string',
  boolean: 'boolean',
  date: 'date',
}

const icebergType = (type: string) => icebergTypes[type.replace(/^(character varying)\(\d+\)$/, '$1')] ?? type.replace('numeric', 'decimal')

const idOf = (snapshotId: bigint | number | undefined) => String(snapshotId)

const metadataOf = (location: string) =>
  parseJsonLossless(readFileSync(location.startsWith('file:') ? fileURLToPath(location) : location, 'utf8')) as {
    'current-snapshot-id': bigint | number
    snapshots: { 'snapshot-id': bigint | number }[]
  }

/** The snapshots that a metadata file names, oldest first. */
export const snapshotsOf = (metadata: string): string[] => metadataOf(metadata).snapshots.map((snapshot) => idOf(snapshot['snapshot-id']))

/** Keeps what Postgres shows now, once Iceberg has it. */
export async function keepMoment(client: TestDatabase['client'], backend: BackendProcess, index: number): Promise<Moment> {
  await client.query(`CREATE TABLE past.moment_${index} AS TABLE t`)
  await backend.wait({ iceberg: true })
  const { rows } = await client.query<{ name: string; type: string }>(`SELECT attname AS name, format_type(atttypid, atttypmod) AS type
    FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`)
  const { state, reason, metadataLocation: metadata } = await backend.table('public.t')
  expect([state, reason]).toEqual(['streaming', null])
  return {
    columns: rows.map(({ name, type }) => [name, icebergType(type)]),
    metadata,
    snapshotId: idOf(metadataOf(metadata)['current-snapshot-id']),
  }
}

/** What readers have to find at each moment. */
export async function foundThen(connectionString: string, moments: readonly Moment[]): Promise<Found[]> {
  const kept = await readEach(
    'pg_read',
    moments.map(({ metadata }, index) => ['--dsn', connectionString, '--schema-from', metadata, `past.moment_${index}`]),
  )
  return kept.map(({ row_count, checksum }, index) => ({ row_count, checksum, columns: moments[index].columns }))
}
