import { Hono } from 'hono'
import { afterEach, expect, test } from 'vitest'
import { listen, type RunningServer } from './server.ts'

let server: RunningServer | null = null
afterEach(() => server?.close())

test('a connection is kept for longer than clients and proxies leave one idle, and says so', async () => {
  const api = new Hono().get('/', (context) => context.text('here'))
  server = await listen(api, '127.0.0.1:0')
  const answer = await fetch(server.url)
  expect(await answer.text()).toBe('here')
  expect(answer.headers.get('keep-alive')).toBe('timeout=75')
})
