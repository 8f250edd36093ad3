import { createHash, timingSafeEqual } from 'node:crypto'
import { MoonlinkError } from '@moonlink/core'
import type { MiddlewareHandler } from 'hono'

const localName = /^(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])(:\d+)?$/i

/**
 * Refuses what a web page could send. A page of another site carries an `Origin` that is not ours; one whose name was made to
 * resolve to loopback (DNS rebinding) carries its own name as `Host`: so a loopback server answers only to `localhost` and to
 * addresses, which no name server can change. A server that others may reach has names of its own, and a token.
 */
export function refuseCrossSite(loopback: boolean): MiddlewareHandler {
  return async (context, next) => {
    const host = context.req.header('host')
    if (loopback && !localName.test(host ?? '')) {
      throw new MoonlinkError(
        'invalid',
        'CROSS_SITE',
        `the Host header names "${host ?? ''}", which is not this server; use 127.0.0.1 or localhost.`,
      )
    }
    const origin = context.req.header('origin')
    const site = context.req.header('sec-fetch-site')
    const ownOrigin =
      origin === undefined || (host !== undefined && /^https?:\/\//.test(origin) && origin.replace(/^https?:\/\//, '') === host)
    if (!ownOrigin || site === 'cross-site' || site === 'same-site') {
      throw new MoonlinkError('invalid', 'CROSS_SITE', 'requests from pages of other sites are refused.')
    }
    await next()
  }
}

/** Lets only requests with the token pass. */
export function requireToken(token: string): MiddlewareHandler {
  const expected = digest(token)
  return async (context, next) => {
    const given = /^Bearer\s+(.+)$/i.exec(context.req.header('authorization') ?? '')?.[1]
    if (given === undefined || !timingSafeEqual(digest(given), expected)) {
      context.header('www-authenticate', 'Bearer')
      throw new MoonlinkError(
        'invalid',
        'UNAUTHORIZED',
        'a bearer token is needed: the http.token of the backend (MOONLINK_TOKEN for the command line).',
      )
    }
    await next()
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
