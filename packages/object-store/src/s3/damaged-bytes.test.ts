import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterEach, expect, test, vi } from 'vitest'
import { S3ObjectStore } from './s3-object-store.ts'
import { startScripted, type Answer, type Trouble } from './scripted-s3.test.support.ts'

const URI = 's3://lake/t/v1'
const bytes = Uint8Array.of(1, 2, 3, 4, 5)

const closing: (() => unknown)[] = []
afterEach(async () => {
  vi.unstubAllEnvs()
  for (const close of closing.splice(0)) await close()
})

/** A store as it is used with AWS: the shared configuration, which only the SDK reads, leads it to this server. */
async function likeAws(script: readonly Trouble[]) {
  const server = await startScripted(script)
  server.putByOther(bytes)
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-aws-'))
  const config = join(directory, 'config')
  writeFileSync(config, `[default]\nendpoint_url = ${server.endpoint}\n`)
  vi.stubEnv('AWS_CONFIG_FILE', config)
  vi.stubEnv('AWS_ENDPOINT_URL', undefined)
  vi.stubEnv('AWS_ENDPOINT_URL_S3', undefined)
  const credentials = { accessKeyId: 'key', secretAccessKey: 'do-not-print-me' }
  const store = new S3ObjectStore({ region: 'us-east-1', credentials, forcePathStyle: true, maxAttempts: 3, backoffMs: 1 })
  closing.push(
    () => store.close(),
    () => server.close(),
    () => rmSync(directory, { recursive: true }),
  )
  return { lines: server.lines, store }
}

/** As S3 answers one who asks for the checksum. */
function summed(answer: Answer): Answer {
  const sum = Buffer.alloc(4)
  sum.writeUInt32BE(crc32(answer.body))
  return { ...answer, headers: { ...answer.headers, 'x-amz-checksum-crc32': sum.toString('base64') } }
}

const whole: Trouble = { change: summed }
const damaged: Trouble = {
  change: (answer) => {
    const body = Buffer.from(answer.body)
    body[2] ^= 1
    return { ...summed(answer), body }
  },
}

test('a bit that flips on its way from the store is read again', async () => {
  const { lines, store } = await likeAws([damaged, whole])
  expect(await store.get(URI)).toEqual(bytes)
  expect(lines).toHaveLength(2)
})

test('an object whose bytes never fit their checksum is said to be damaged', async () => {
  const { lines, store } = await likeAws([damaged, damaged, damaged])
  const error: unknown = await store.get(URI).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ kind: 'corrupt', code: 'OBJECT_CORRUPT', context: { uri: URI, action: 'read' } })
  expect((error as Error).message).toMatch(/s3:\/\/lake\/t\/v1 .*restore the object from a version/)
  expect(lines).toHaveLength(3)
})

test('what the store got otherwise than it was sent is sent again', async () => {
  const { store, lines } = await likeAws([{ status: 400, code: 'BadDigest' }, 'none'])
  await store.put(URI, bytes)
  expect(lines).toEqual(['PUT /lake/t/v1', 'PUT /lake/t/v1'])
})
