import { silentTelemetry, type Logger } from '@moonlink/core'
import type { Hono } from 'hono'
import { isLoopback } from '../config/loopback.ts'
import type { Config } from '../config/schema.ts'
import { createApi } from '../http/app.ts'
import type { Operations } from '../service/operations.ts'
import { stateMetrics, type StateMetricName } from '../telemetry/metrics.ts'

/** The API of a backend that does not mirror yet. */
export function notYetApi(config: Config, operations: Operations, logger: Logger): Hono {
  return createApi(operations, {
    token: config.http.token,
    loopback: isLoopback(config.http.listen),
    logger,
    telemetry: silentTelemetry,
    // A standby that waits is well: it has no stream that could be down.
    metrics: async () => (operations.health().role === 'standby' ? gaugePage('moonlink_standby', 1) : gaugePage('moonlink_up', 0)),
  })
}

function gaugePage(metric: StateMetricName, value: number): string {
  const help = stateMetrics.find(({ name }) => name === metric)?.help
  return `# HELP ${metric} ${help}\n# TYPE ${metric} gauge\n${metric} ${value}\n`
}
