import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { parseConfig } from './config.ts'
import { Connector } from './connect.ts'

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

test('a connection that the server ends as soon as it is made is told with the reason that the server gave', async () => {
  const reason = 'terminating connection due to administrator command'
  const answer = Buffer.concat([
    message('R', Buffer.alloc(4)),
    message('Z', Buffer.from('I')),
    message('E', Buffer.from(`SFATAL\0C57P01\0M${reason}\0\0`)),
  ])
  const server = createServer((socket) => void socket.on('error', () => undefined).once('data', () => socket.end(answer)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const connector = new Connector(parseConfig({ connection: `postgres://u@127.0.0.1:${port}/d?sslmode=disable` }))
  try {
    await expect(connector.connect('test')).rejects.toMatchObject({
      kind: 'retry',
      code: 'PG_CONNECT',
      message: expect.stringContaining(reason) as string,
    })
  } finally {
    server.close()
  }
})
