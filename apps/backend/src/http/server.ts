import type { AddressInfo } from 'node:net'
import { serve, type ServerType } from '@hono/node-server'
import { MoonlinkError } from '@moonlink/core'
import { Hono } from 'hono'

/** Beyond the minute for which proxies keep an idle connection: whoever closes first must be the client, or it sends a request into a closed one. */
const KEEP_ALIVE_MS = 75_000

export interface RunningServer {
  /** `http://127.0.0.1:3030`, with the port that was taken. */
  readonly url: string
  /** From the next request on. */
  answerWith(api: Hono): void
  /** Lets running requests end for at most a second, then closes. */
  close(): Promise<void>
}

/** Serves the API at `host:port`. Throws `invalid`/`HTTP_LISTEN` where that address can't be taken. */
export async function listen(api: Hono, address: string): Promise<RunningServer> {
  const at = address.lastIndexOf(':')
  const hostname = address.slice(0, at).replace(/^\[|\]$/g, '')
  const port = Number(address.slice(at + 1))
  let answering = api
  const fetch: Hono['fetch'] = (...request) => answering.fetch(...request)
  const server = await new Promise<ServerType>((resolve, reject) => {
    const started = serve({ fetch, hostname, port, serverOptions: { keepAliveTimeout: KEEP_ALIVE_MS } }, () => resolve(started))
    started.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, address)))
  })
  const taken = (server.address() as AddressInfo).port
  return {
    url: `http://${hostname.includes(':') ? `[${hostname}]` : hostname}:${taken}`,
    answerWith: (next) => void (answering = next),
    close: () => close(server),
  }
}

/** Throws as `listen` does where the address can't be taken now. */
export async function checkAddress(address: string): Promise<void> {
  await (await listen(new Hono(), address)).close()
}

function close(server: ServerType): Promise<void> {
  return new Promise((resolve) => {
    const force = setTimeout(() => {
      if ('closeAllConnections' in server) server.closeAllConnections()
    }, 1000)
    server.close(() => {
      clearTimeout(force)
      resolve()
    })
    if ('closeIdleConnections' in server) server.closeIdleConnections()
  })
}

function listenError(error: NodeJS.ErrnoException, address: string): MoonlinkError {
  const reason =
    error.code === 'EADDRINUSE'
      ? 'another program listens there; is a backend running already? Choose another with --http or http.listen'
      : error.message
  return new MoonlinkError('invalid', 'HTTP_LISTEN', `can't listen on ${address}: ${reason}.`, { context: { address }, cause: error })
}
