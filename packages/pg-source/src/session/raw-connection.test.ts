import { once } from 'node:events'
import { createServer, Socket, type AddressInfo, type SocketConstructorOpts } from 'node:net'
import { Duplex } from 'node:stream'
import { isMoonlinkError } from '@moonlink/core'
import { damaged, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import pg from 'pg'
import { expect, test, vi } from 'vitest'
import { LendingSocket } from './lending-socket.ts'
import { RawConnection } from './raw-connection.ts'

function message(type: string, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(5)
  header.write(type, 0, 'latin1')
  header.writeInt32BE(payload.length + 4, 1)
  return Buffer.concat([header, payload])
}

interface Heard {
  readonly data: string[]
  readonly control: string[]
  readonly errors: unknown[]
}

/** A connection whose socket is ours: `receive` hands it a chunk. */
function connected(onData: (text: string) => void = () => {}): { receive: (chunk: Uint8Array) => void; heard: Heard; stream: Duplex } {
  // What we send goes nowhere.
  const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done: () => void) => done() })
  const client = { connection: { stream }, end: async () => {} } as unknown as pg.Client
  const connection = new RawConnection(client)
  const heard: Heard = { data: [], control: [], errors: [] }
  connection.start('SELECT', {
    copyData: (bytes, start, end) => {
      const text = bytes.toString('latin1', start, end)
      heard.data.push(text)
      onData(text)
    },
    control: (type) => heard.control.push(String.fromCharCode(type)),
    chunkEnd: () => {},
    failed: (error) => heard.errors.push(error),
  })
  return { receive: (chunk) => void stream.emit('data', chunk), heard, stream }
}

test('messages come out whole however the socket cuts them', () => {
  const payloads = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 })
  fc.assert(
    fc.property(payloads, fc.array(fc.nat(30), { minLength: 1, maxLength: 50 }), (contents, cuts) => {
      const { receive, heard } = connected()
      const wire = Buffer.concat([
        message('W', Buffer.from([0, 0, 0])),
        ...contents.flatMap((content) => [message('d', content), message('N', content)]),
        message('Z', Buffer.from('I')),
      ])
      for (let at = 0, index = 0; at < wire.length; index++) {
        const size = 1 + (cuts[index % cuts.length] ?? 0)
        // The socket's memory is used again for its next chunk.
        const chunk = Buffer.from(wire.subarray(at, at + size))
        receive(chunk)
        chunk.fill(0xee)
        at += size
      }
      expect(heard.data).toEqual(contents.map((content) => Buffer.from(content).toString('latin1')))
      expect(heard.control).toEqual(['W', 'Z'])
      expect(heard.errors).toEqual([])
    }),
  )
})

test('a handler that throws does not lose the messages behind it', () => {
  const { receive, heard } = connected((text) => {
    if (text === 'bad') throw new Error('refused')
  })
  receive(Buffer.concat([message('d', Buffer.from('bad')), message('d', Buffer.from('good')), message('Z', Buffer.from('I'))]))
  expect(heard.data).toEqual(['bad', 'good'])
  expect(heard.control).toEqual(['Z'])
  expect(heard.errors).toHaveLength(1)
})

test('an ErrorResponse carries its fields; a length that can not be ends the connection', () => {
  const { receive, heard, stream } = connected()
  receive(message('E', Buffer.from('SERROR\0C55006\0Mslot is active\0Hstop it\0\0')))
  expect(heard.errors[0]).toMatchObject({ code: '55006', message: 'slot is active', hint: 'stop it' })
  receive(Buffer.from([0x64, 0, 0, 0, 1, 0]))
  expect(isMoonlinkError(heard.errors[1], 'corrupt')).toBe(true)
  expect(stream.destroyed).toBe(true)
})

test('an ErrorResponse without an end is read as far as it goes', () => {
  const { receive, heard } = connected()
  receive(Buffer.concat([message('E', Buffer.from('C55006\0Mslot is')), message('Z', Buffer.from('I'))]))
  receive(message('E', Buffer.from('Mslot')))
  expect(heard.errors).toMatchObject([{ code: '55006', message: 'slot is' }, { message: 'slot' }])
  expect(heard.control).toEqual(['Z'])
})

test('whatever comes, it is taken, or ends the connection by an error that says so, and sizes that are made up cost no memory', () => {
  const wire = Buffer.concat([
    message('W', Buffer.from([0, 0, 0])),
    message('d', Buffer.alloc(90, 1)),
    message('E', Buffer.from('SERROR\0C55006\0Mslot is active\0\0')),
    message('N', Buffer.from('SNOTICE\0\0')),
    message('d', Buffer.from('more')),
    message('Z', Buffer.from('I')),
  ])
  const allocated = vi.spyOn(Buffer, 'allocUnsafeSlow')
  try {
    fc.assert(
      fc.property(damages, fc.integer({ min: 1, max: 200 }), (what, size) => {
        const { receive, heard, stream } = connected()
        const bytes = damaged(wire, what)
        for (let at = 0; at < bytes.length && !stream.destroyed; at += size) receive(Buffer.from(bytes.subarray(at, at + size)))
        for (const error of heard.errors) expect(isMoonlinkError(error, 'corrupt') || error instanceof pg.DatabaseError).toBe(true)
        for (const [asked] of allocated.mock.calls) expect(asked).toBeLessThanOrEqual(Math.max(64 * 1024, 4 * bytes.length))
        allocated.mockClear()
      }),
      fuzzing(1000),
    )
  } finally {
    allocated.mockRestore()
  }
})

test('a command on a connection that broke between two, or before the first, fails', async () => {
  const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done: () => void) => done() })
  const connection = new RawConnection({ connection: { stream }, end: async () => {} } as unknown as pg.Client)
  stream.destroy()
  await once(stream, 'close')
  for (let command = 0; command < 2; command++) {
    const errors: unknown[] = []
    connection.start('SELECT', { copyData: () => {}, control: () => {}, chunkEnd: () => {}, failed: (error) => errors.push(error) })
    expect(errors).toEqual([new Error('the connection was closed')])
  }
})

test.each([
  ['lending', () => new LendingSocket()],
  ['ordinary', () => new Socket({ readableHighWaterMark: 1 } as SocketConstructorOpts)],
])('a busy %s socket is read in few large chunks, and loses nothing to rests and pauses', async (_kind, socketOf) => {
  const count = 20_000
  const server = createServer((socket) => {
    let next = 0
    // As a walsender does: a write for each message, as fast as the reader lets it.
    const step = () => {
      for (let burst = 0; burst < 40 && next < count; burst++) socket.write(message('d', Buffer.from(`message ${next++}`)))
      if (next < count) setImmediate(step)
    }
    socket.setNoDelay(true)
    step()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stream = socketOf().connect((server.address() as AddressInfo).port, '127.0.0.1')
  const connection = new RawConnection({ connection: { stream }, end: async () => void stream.destroy() } as unknown as pg.Client, {
    isPaced: true,
  })
  const heard: string[] = []
  let chunks = 0
  await new Promise<void>((resolve, reject) => {
    connection.start('SELECT', {
      copyData: (bytes, start, end) => {
        heard.push(bytes.toString('latin1', start, end))
        if (heard.length === count) resolve()
      },
      control: () => {},
      chunkEnd: () => {
        if (++chunks % 50 === 0) {
          connection.pause()
          setTimeout(() => connection.resume(), 2)
        }
      },
      failed: reject,
    })
  })
  expect(heard).toEqual(Array.from({ length: count }, (_, index) => `message ${index}`))
  expect(chunks).toBeLessThan(count / 20)
  await connection.close()
  server.close()
})
