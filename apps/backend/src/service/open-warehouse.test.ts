import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemClock, systemRandom, type Catalog, type TableSchema } from '@moonlink/core'
import { newTableMetadata, schemaToJson } from '@moonlink/iceberg-writer'
import { expect, test, vi } from 'vitest'
import { loadConfig } from '../config/load.ts'
import { openWarehouse } from './open-warehouse.ts'
import type { OpenTableOptions } from './parts.ts'

const schema: TableSchema = { fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }], identifierFieldIds: [1] }

test('where the catalog alone knows the place, it is said before anything is copied that files can not be written there', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'moonlink-warehouse-'))
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
  for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE']) vi.stubEnv(name, '')
  const flags = { stateDir, catalog: { kind: 'rest', uri: 'http://127.0.0.1:1' }, s3: { region: 'eu-west-1' } }
  const { config } = loadConfig({ environment: {}, flags, workingDirectory: stateDir })
  const location = 's3://moonlink-test/lake/t'
  const metadata = newTableMetadata({ location, schema: schemaToJson(schema), properties: {}, uuid: 'a', nowMs: 0 })
  const loaded = { metadataLocation: `${location}/metadata/v1.metadata.json`, metadata, config: {} }
  const catalog = { load: async () => null, create: async () => loaded } as unknown as Catalog
  const wrap = <T>(place: string, port: T): T => (place === 'catalog' ? (catalog as T) : port)
  const warehouse = await openWarehouse(config, { clock: systemClock, random: systemRandom, logger: silentLogger, wrap })
  try {
    await warehouse.checkWritable()
    await expect(warehouse.openTable({ schema: 'public', name: 't' }, { schema } as OpenTableOptions)).rejects.toMatchObject({
      kind: 'invalid',
      code: 'STORE_CREDENTIALS',
      message: expect.stringMatching(/^the warehouse can't be written: no credentials for S3 were found: set s3\.accessKeyId/) as string,
    })
  } finally {
    await warehouse.close()
    vi.unstubAllEnvs()
    rmSync(stateDir, { recursive: true })
  }
})
