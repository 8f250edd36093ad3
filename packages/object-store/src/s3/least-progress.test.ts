import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { systemClock } from '@moonlink/core'
import { afterEach, expect, test } from 'vitest'
import { S3ObjectStore } from './s3-object-store.ts'
import type { S3ObjectStoreOptions } from './s3-options.ts'

const URI = 's3://lake/t/v1'
const windowMs = 300
const dripMs = 40
const tooSlow = { kind: 'retry', code: 'STORE_UNAVAILABLE', message: expect.stringMatching(/only \d+ bytes in 300 ms/) }

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

/** A server that never falls silent for long, and a store that speaks to it. */
async function start(answer: (request: IncomingMessage, response: ServerResponse) => void, options: S3ObjectStoreOptions = {}) {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const store = new S3ObjectStore({
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
    clock: { ...systemClock, sleep: () => Promise.resolve() },
    timeoutMs: windowMs,
    maxAttempts: 1,
    ...options,
  })
  closing.push(async () => {
    await store.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return store
}

/** Sends the text a byte at a time, over and over, until the other side hangs up. */
function drip(socket: Socket, text: string): void {
  let at = 0
  const timer = setInterval(() => socket.write(text[at++ % text.length]), dripMs)
  socket.on('close', () => clearInterval(timer))
  socket.on('error', () => undefined)
}

async function listed(store: S3ObjectStore): Promise<number> {
  let count = 0
  for await (const _ of store.list('s3://lake/t/')) count++
  return count
}

test('a body that drips is given up, and tried again', async () => {
  let requests = 0
  const store = await start(
    (request, response) => {
      requests++
      response.writeHead(200, { 'content-length': '100000' })
      response.flushHeaders()
      drip(request.socket, 'x')
    },
    { maxAttempts: 2 },
  )
  await expect(store.get(URI)).rejects.toMatchObject(tooSlow)
  expect(requests).toBe(2)
})

test('a list that drips is given up', async () => {
  const store = await start((request, response) => {
    response.writeHead(200, { 'content-length': '100000' })
    response.flushHeaders()
    drip(request.socket, '<ListBucketResult>')
  })
  await expect(listed(store)).rejects.toMatchObject(tooSlow)
})

test('headers that drip are given up, for a put, a head and a delete as well', async () => {
  const store = await start(({ socket }) => {
    socket.write('HTTP/1.1 200 OK\r\n')
    drip(socket, 'x-slow: 1\r\n')
  })
  await expect(store.get(URI)).rejects.toMatchObject(tooSlow)
  await expect(store.head(URI)).rejects.toMatchObject(tooSlow)
  await expect(store.delete(URI)).rejects.toMatchObject(tooSlow)
  await expect(store.put(URI, Uint8Array.of(1))).rejects.toMatchObject(tooSlow)
})

test('a server that takes what is sent drop by drop is given up', async () => {
  const store = await start((request) => {
    const timer = setInterval(() => request.read(16), dripMs)
    request.on('close', () => clearInterval(timer))
    request.socket.on('error', () => undefined)
    // So that the socket is not silent either.
    request.socket.write('HTTP/1.1 100 Continue\r\n\r\n')
    const noise = setInterval(() => request.socket.write('HTTP/1.1 102 Processing\r\n\r\n'), dripMs)
    request.socket.on('close', () => clearInterval(noise))
  })
  await expect(store.put(URI, new Uint8Array(32 * 1024 * 1024))).rejects.toMatchObject(tooSlow)
})

test('an answer that takes long but gets on is waited for, and so is an upload', async () => {
  const timeoutMs = 1000
  const part = Buffer.alloc(8 * 1024, 1)
  const parts = Math.ceil((2.5 * timeoutMs) / dripMs)
  const received: number[] = []
  const store = await start(
    (request, response) => {
      if (request.method === 'PUT') {
        let bytes = 0
        request.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes < 4 * 1024 * 1024) {
            request.pause()
            setTimeout(() => request.resume(), 2)
          }
        })
        request.on('end', () => {
          received.push(bytes)
          response.writeHead(200, { etag: '"e"' }).end()
        })
        return
      }
      response.writeHead(200, { 'content-length': String(part.length * parts) })
      let sent = 0
      const timer = setInterval(() => {
        response.write(part)
        if (++sent < parts) return
        clearInterval(timer)
        response.end()
      }, dripMs)
    },
    { timeoutMs, maxAttempts: 5 },
  )
  expect((await store.get(URI)).length).toBe(part.length * parts)
  await store.put(URI, new Uint8Array(8 * 1024 * 1024))
  expect(received.at(-1)).toBe(8 * 1024 * 1024)
})

test('white space while an upload is put together is no drip', async () => {
  const result = '<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
  const store = await start(
    (request, response) => {
      request.resume()
      const url = new URL(request.url!, 'http://x')
      if (url.searchParams.has('uploads'))
        return void response.end('<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>')
      if (request.method === 'PUT') return void response.writeHead(200, { etag: '"e"' }).end()
      response.writeHead(200)
      let spaces = 0
      const timer = setInterval(() => {
        if (++spaces * dripMs < 3 * windowMs) return void response.write(' ')
        clearInterval(timer)
        response.end(result)
      }, dripMs)
    },
    { multipartThresholdBytes: 3, partBytes: 2, maxAttempts: 5 },
  )
  await store.put(URI, new Uint8Array(5))
})
