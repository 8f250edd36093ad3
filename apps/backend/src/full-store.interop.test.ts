import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { SmallDisk } from './testing/chaos/small-disk.ts'
import { s3Credentials } from './testing/chaos/remote-warehouse.ts'
import { interopScripts } from './testing/readers.ts'
import { verified } from './testing/verified.ts'

const run = promisify(execFile)
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-full-store-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test('an S3 server whose disk is full for a while: nothing is lost, status says why it waits, and it goes on by itself', async ({
  skip,
}) => {
  const disk = SmallDisk.mount('store', join(directory, 's3'), 256)
  if (!disk.isMounted) return skip('mounting is not allowed here')
  const port = 25_000 + (process.pid % 1000) * 2
  let pid: number | null = null
  try {
    const environment = { ...process.env, S3_DATA: disk.directory }
    const { stdout } = await run('bash', [join(interopScripts, 'start-s3.sh'), 'weed', String(port)], { env: environment })
    const [endpoint, startedPid] = stdout.trim().split(' ')
    pid = Number(startedPid)
    const { client, connectionString } = await postgres.createDatabase()
    await client.query('CREATE TABLE notes (id bigint PRIMARY KEY, note text)')
    const insert = (from: number, to: number) =>
      client.query(`INSERT INTO notes SELECT i, md5(i::text) FROM generate_series(${from}, ${to}) i`)
    await insert(1, 1000)
    const flags = ['--source', connectionString, '--state-dir', join(directory, 'state'), '--warehouse', 's3://warehouse/full']
    const env = {
      AWS_ENDPOINT_URL: endpoint,
      AWS_ACCESS_KEY_ID: s3Credentials.accessKey,
      AWS_SECRET_ACCESS_KEY: s3Credentials.secretKey,
      AWS_REGION: s3Credentials.region,
    }
    const backend = await BackendProcess.start(flags, env)
    try {
      await backend.wait({ iceberg: true })
      await disk.fill()
      await insert(1001, 200_000)
      await client.query('DELETE FROM notes WHERE id % 3 = 0')
      const reason = async () => (await backend.table('public.notes')).reason
      await expect.poll(reason).toMatch(/^STORE_(FULL|UNAVAILABLE) .*room/)
      // What is applied is read meanwhile.
      await backend.wait()
      expect(await backend.query('SELECT count(*) FROM notes')).toEqual([[133_334]])
      await disk.free()
      await backend.wait({ iceberg: true })
      expect(await reason()).toBeNull()
      expect(await verified(backend.url, directory)).toMatchObject({ status: 0 })
    } finally {
      await backend.stop()
    }
  } finally {
    if (pid !== null) process.kill(pid, 'SIGKILL')
    disk.unmount()
  }
})
