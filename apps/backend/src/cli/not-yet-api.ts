import { silentTelemetry, type Logger } from '@moonlink/core'
import type { Hono } from 'hono'
import { isLoopback } from '../config/loopback.ts'
import type { Config } from '../config/schema.ts'
import { createApi } from '../http/app.ts'
import type { Operations } from '../service/operations.ts'

/** The API of a backend that does not mirror yet. */
export function notYetApi(config: Config, operations: Operations, logger: Logger): Hono {
  return createApi(operations, {
    token: config.http.token,
    loopback: isLoopback(config.http.listen),
    logger,
    telemetry: silentTelemetry,
    metrics: async () => '# HELP moonlink_up Whether the change stream is open.\n# TYPE moonlink_up gauge\nmoonlink_up 0\n',
  })
}
