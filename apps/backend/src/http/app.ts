import { MoonlinkError, type Logger, type Telemetry } from '@moonlink/core'
import { Hono, type Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import type { z } from 'zod'
import type { Operations } from '../service/operations.ts'
import { endpoints, type Endpoint } from './endpoints.ts'
import { answeredError, errorBody, invalidRequest, statusOf } from './errors.ts'
import { refuseCrossSite, requireToken } from './guard.ts'
import { openApiDocument } from './openapi.ts'

/** Of Prometheus' text format. */
const prometheusContentType = 'text/plain; version=0.0.4; charset=utf-8'
const bodyLimitBytes = 4 * 2 ** 20

export interface ApiOptions {
  /** Asked of every request but health and readiness, where set. */
  readonly token?: string | undefined
  /** Whether the server listens on loopback: then only loopback's own names are accepted as `Host`. */
  readonly loopback: boolean
  readonly logger: Logger
  readonly telemetry: Telemetry
  /** The page that Prometheus scrapes. */
  metrics(): Promise<string>
}

/** The HTTP API over a running backend. */
export function createApi(operations: Operations, options: ApiOptions): Hono {
  const api = new Hono()
  api.use(refuseCrossSite(options.loopback))
  api.use(
    bodyLimit({
      maxSize: bodyLimitBytes,
      onError: () => {
        throw new MoonlinkError('invalid', 'BODY_TOO_LARGE', `a request body may have ${bodyLimitBytes} bytes at most.`)
      },
    }),
  )
  api.onError((thrown, context) => {
    const error = answeredError(thrown)
    const status = statusOf(error)
    options.telemetry.count('moonlink_errors_total', 1, { where: 'http', kind: error.kind, code: error.code })
    if (status === 500)
      options.logger.error(error.message, {
        code: error.code,
        path: context.req.path,
        stack: (error.cause as Error | undefined)?.stack ?? error.stack,
      })
    return context.json(errorBody(error), status)
  })
  api.notFound((context) => context.json(errorBody(notFound(context)), statusOf(notFound(context))))
  const guarded = options.token === undefined ? null : requireToken(options.token)
  for (const endpoint of endpoints) {
    if (guarded !== null && endpoint.open !== true) api.on(endpoint.method.toUpperCase(), endpoint.path, guarded)
    api.on(endpoint.method.toUpperCase(), endpoint.path, async (context) => endpoint.handle(operations, await readInput(endpoint, context)))
  }
  if (guarded !== null) api.get('/metrics', guarded)
  api.get('/metrics', async (context) => context.body(await options.metrics(), 200, { 'content-type': prometheusContentType }))
  const document = openApiDocument(endpoints, options.token !== undefined)
  api.get('/openapi.json', (context) => context.json(document))
  return api
}

async function readInput(endpoint: Endpoint, context: Context) {
  return {
    body: endpoint.body === undefined ? undefined : checked(endpoint.body, await readBody(context)),
    query: endpoint.query === undefined ? undefined : checked(endpoint.query, context.req.query()),
    path: context.req.param(),
  }
}

async function readBody(context: Context): Promise<unknown> {
  const text = await context.req.text()
  if (text.trim() === '') return {}
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw new MoonlinkError('invalid', 'REQUEST_INVALID', `the body is no JSON: ${(error as Error).message}`, { cause: error })
  }
}

function checked(schema: z.ZodType, value: unknown): unknown {
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw invalidRequest(parsed.error.issues, value)
  return parsed.data
}

function notFound(context: Context): MoonlinkError {
  const methods = endpoints.filter((endpoint) => endpoint.path === context.req.path).map((endpoint) => endpoint.method.toUpperCase())
  if (methods.length > 0) return new MoonlinkError('invalid', 'METHOD_NOT_ALLOWED', `${context.req.path} takes ${methods.join(' or ')}.`)
  return new MoonlinkError('invalid', 'NOT_FOUND', `there is nothing at ${context.req.path}; /openapi.json lists what there is.`)
}
