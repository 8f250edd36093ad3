import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { s3Environment } from './testing/s3-environment.ts'
import { verified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-refused-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Of AWS' chain, which asks such a process before each request that its answer would not outlive by five minutes. */
const soonOver = 240_000

test('the copy of a table that is added waits while the store refuses credentials, says so, and goes on with new ones', async () => {
  const { bucket, env: s3 } = s3Environment()
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...place } = s3
  const credentials = join(directory, 'credentials.json')
  const give = (secret: string) => {
    const expiration = new Date(Date.now() + soonOver).toISOString()
    const answer = { Version: 1, AccessKeyId: AWS_ACCESS_KEY_ID, SecretAccessKey: secret, Expiration: expiration }
    writeFileSync(credentials, JSON.stringify(answer))
  }
  writeFileSync(join(directory, 'config'), `[profile given]\ncredential_process = cat ${credentials}\n`)
  const env = {
    ...place,
    AWS_PROFILE: 'given',
    AWS_CONFIG_FILE: join(directory, 'config'),
    AWS_SHARED_CREDENTIALS_FILE: join(directory, 'none'),
  }
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE before (id int PRIMARY KEY)')
  give(AWS_SECRET_ACCESS_KEY)
  const warehouse = `s3://${bucket}/moonlink-refused-${randomBytes(4).toString('hex')}`
  const args = ['--source', connectionString, '--state-dir', join(directory, 'state'), '--warehouse', warehouse]
  const backend = await BackendProcess.start(args, env)
  const writer = new pg.Client({ connectionString })
  await writer.connect()
  try {
    await client.query('CREATE TABLE added (id int PRIMARY KEY); INSERT INTO added SELECT generate_series(1, 1000)')
    await writer.query('BEGIN; INSERT INTO before VALUES (1)')
    await backend.post('/tables', { tables: ['public.added'] })
    give('another')
    await writer.query('COMMIT')
    const added = () => backend.table('public.added')
    await expect.poll(added).toMatchObject({
      state: 'copying',
      waitingFor: expect.stringMatching(/^its copy is tried again: STORE_CREDENTIALS /) as string,
    })
    give(AWS_SECRET_ACCESS_KEY)
    await expect.poll(added).toMatchObject({ state: 'streaming', waitingFor: null })
    await client.query('INSERT INTO added VALUES (1001)')
    expect(await verified(backend.url, directory)).toMatchObject({ status: 0 })
  } finally {
    await writer.end()
    await backend.stop()
  }
})
