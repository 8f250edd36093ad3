import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { S3ObjectStore } from './s3-object-store.ts'
import type { S3ObjectStoreOptions } from './s3-options.ts'
import { startScripted } from './scripted-s3.test.support.ts'

const URI = 's3://lake/t/v1'
const one = Uint8Array.of(1)
const closing: (() => unknown)[] = []

/** Nothing of the machine that runs the tests tells credentials or a region. */
beforeEach(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'moonlink-aws-'))
  closing.push(() => rm(directory, { recursive: true }))
  for (const name of Object.keys(process.env).filter((name) => name.startsWith('AWS_'))) vi.stubEnv(name, undefined)
  vi.stubEnv('AWS_CONFIG_FILE', join(directory, 'config'))
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(directory, 'credentials'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  for (const close of closing.splice(0).reverse()) await close()
})

/** A machine's metadata service, which the SDK asks last. */
async function metadataService(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<void> {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  vi.stubEnv('AWS_EC2_METADATA_SERVICE_ENDPOINT', `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  closing.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
}

async function refusal(options: S3ObjectStoreOptions): Promise<unknown> {
  const store = new S3ObjectStore(options)
  closing.push(() => store.close())
  return store.put(URI, one).then(
    () => null,
    (error: unknown) => error,
  )
}

test('what is missing is named, and all of it at once', async () => {
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' }
  const noRegion = await refusal({ credentials })
  expect(noRegion).toMatchObject({ kind: 'invalid', code: 'STORE_REGION', message: expect.stringMatching(/s3\.region or AWS_REGION\.$/) })
  const noCredentials = await refusal({ region: 'eu-west-1' })
  expect(noCredentials).toMatchObject({
    kind: 'invalid',
    code: 'STORE_CREDENTIALS',
    message: expect.stringMatching(/s3\.accessKeyId.*role/),
  })
  const neither = await refusal({})
  expect(neither).toMatchObject({ code: 'STORE_REGION', message: expect.stringMatching(/AWS_REGION; no credentials/) })
})

test('a profile that is not there is named', async () => {
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
  vi.stubEnv('AWS_PROFILE', 'lake')
  expect(await refusal({ region: 'eu-west-1' })).toMatchObject({ kind: 'invalid', code: 'STORE_CREDENTIALS' })
})

test('a metadata service that drips is not waited for any longer than the time-out', async () => {
  await metadataService((_, response) => {
    response.writeHead(200)
    const timer = setInterval(() => response.write(' '), 50)
    response.on('close', () => clearInterval(timer))
  })
  expect(await refusal({ region: 'eu-west-1', timeoutMs: 300 })).toMatchObject({
    kind: 'retry',
    code: 'STORE_CREDENTIALS',
    message: expect.stringContaining('did not answer within 300 ms'),
  })
})

test("the machine's role is taken where it has one", async () => {
  await metadataService((request, response) => {
    const path = request.url!
    if (path === '/latest/api/token') return void response.end('token')
    if (path.endsWith('/security-credentials/')) return void response.end('role')
    const Expiration = new Date(Date.now() + 3_600_000).toISOString()
    response.end(JSON.stringify({ AccessKeyId: 'of-the-role', SecretAccessKey: 's', Token: 't', Expiration }))
  })
  const server = await startScripted()
  closing.push(() => server.close())
  const store = new S3ObjectStore({ endpoint: server.endpoint })
  closing.push(() => store.close())
  await store.put(URI, one)
  expect(server.bytes()).toEqual(Buffer.from(one))
  expect(server.signers).toEqual(['of-the-role'])
})
