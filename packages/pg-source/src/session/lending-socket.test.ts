import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { LendingSocket } from './lending-socket.ts'

let server: Server
let peer: Socket
let socket: LendingSocket
beforeEach(async () => {
  server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  socket = new LendingSocket()
  socket.connect((server.address() as AddressInfo).port, '127.0.0.1')
  const connected = once(socket, 'connect')
  ;[peer] = (await once(server, 'connection')) as [Socket]
  await connected
})
afterEach(() => {
  socket.destroy()
  peer.destroy()
  server.close()
})

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('what it reads is its listener’s own until it lends, and one buffer from then on', async () => {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  for (const [index, text] of ['one', 'two', 'six', 'ten'].entries()) {
    if (index === 2) socket.lend()
    peer.write(text)
    while (chunks.length <= index) await sleep(1)
  }
  expect(chunks.map(String)).toEqual(['one', 'two', 'ten', 'ten'])
})

test('a listener that pauses it gets nothing more until it is resumed, then every byte in order, and the end', async () => {
  const total = 8 * 1024 * 1024
  const sent = Buffer.alloc(total)
  for (let index = 0; index < total; index++) sent[index] = index * 31 + (index >> 13)
  let received = 0
  let isOpen = false
  let isRight = true
  socket.lend()
  socket.on('data', (chunk: Buffer) => {
    isRight &&= isOpen && sent.subarray(received, received + chunk.length).equals(chunk)
    received += chunk.length
    isOpen = false
    socket.pause()
  })
  socket.pause()
  peer.end(sent)
  const ended = once(socket, 'end')
  while (received < total) {
    const before = received
    await sleep(1)
    expect(received).toBe(before)
    isOpen = true
    socket.resume()
    while (isOpen) await sleep(1)
  }
  socket.resume()
  await ended
  expect([received, isRight]).toEqual([total, true])
})
