import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { Load } from './testing/load.ts'
import { s3Environment } from './testing/s3-environment.ts'
import { verified } from './testing/verified.ts'

/** As `standby.pg.test.ts`, with everything that a machine's death must not take in S3. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-standby-s3-'))
const running: BackendProcess[] = []
afterAll(async () => {
  for (const backend of running) {
    await backend.stop('SIGKILL')
  }
  rmSync(directory, { recursive: true, force: true })
})

const { bucket, env: s3 } = s3Environment()
const env = { ...s3, MOONLINK_CHANGE_LOG_KIND: 'store' }

test('a machine dies: what it has in S3 is enough for its successor', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await Load.createTables(client)
  const warehouse = `s3://${bucket}/moonlink-standby-${randomBytes(4).toString('hex')}`
  const launch = async (name: string) => {
    const args = ['--source', connectionString, '--state-dir', join(directory, name), '--warehouse', warehouse, '--standby']
    const backend = BackendProcess.launch(args, env)
    running.push(backend)
    return backend
  }
  const first = await launch('first')
  await first.ready()
  const second = await launch('second')
  await second.isStandby()
  const load = new Load(connectionString)
  await load.until(60)
  await first.stop('SIGKILL')
  await second.ready()
  await load.until(60)
  await load.stop()
  await second.wait({ iceberg: true })
  const result = await verified(second.url, directory)
  expect(result, second.said).toMatchObject({ status: 0 })
  expect(result.stdout).toMatch(/public\.bag: equal.*\npublic\.items: equal.*\npublic\.still: equal/)
  expect(readFileSync(join(directory, 'second', 'moonlink.log'), 'utf8')).not.toMatch(/made equal|copied again|is damaged|is missing/)
  expect(await second.stop()).toBe(0)
})
