import { isMoonlinkError, systemClock, type Logger, type Telemetry } from '@moonlink/core'
import type { SpanExporter } from '@opentelemetry/sdk-trace'

export interface Spans extends Pick<Telemetry, 'span'> {
  /** Sends what is left, to a collector that takes it within a few seconds. */
  close(): Promise<void>
}

const CLOSE_PATIENCE_MS = 3_000

const none: Spans = { span: (_name, _labels, work) => work(), close: async () => undefined }

/**
 * Spans to an OpenTelemetry collector over OTLP/HTTP; without an endpoint none are made, and the libraries for it are not loaded. One that does not take them is
 * said, and nothing else waits for it.
 */
export async function openSpans(endpoint: string | undefined, serviceVersion: string, logger: Logger): Promise<Spans> {
  if (endpoint === undefined) return none
  const [
    { context, SpanStatusCode },
    { AsyncLocalStorageContextManager },
    { BatchSpanProcessor, TracerProvider },
    { OTLPTraceExporter },
    resources,
  ] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/context-async-hooks'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ])
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/+$/, '')}/v1/traces` })
  const provider = new TracerProvider({
    resource: resources.resourceFromAttributes({ 'service.name': 'moonlink', 'service.version': serviceVersion }),
    spanProcessors: [new BatchSpanProcessor({ exporter: sayingTrouble(exporter, logger) })],
  })
  const tracer = provider.getTracer('moonlink', serviceVersion)
  return {
    span: (name, labels, work) =>
      tracer.startActiveSpan(name, { attributes: { ...labels } }, async (span) => {
        try {
          return await work()
        } catch (error) {
          // Not its message: that of a query, or of a value that does not fit, has what is in rows.
          const name = isMoonlinkError(error) ? error.code : 'INTERNAL'
          span.setAttribute('error.type', name)
          span.setStatus({ code: SpanStatusCode.ERROR, message: name })
          throw error
        } finally {
          span.end()
        }
      }),
    close: async () => {
      const patience = new AbortController()
      // What it has not taken by then is lost, as the log says.
      const shutDown = provider.shutdown().catch(() => undefined)
      await Promise.race([shutDown, systemClock.sleep(CLOSE_PATIENCE_MS, patience.signal)])
      patience.abort(new Error('closed'))
    },
  }
}

/** Says it once when the collector does not take what it is sent, and when it does again. */
function sayingTrouble(exporter: SpanExporter, logger: Logger): SpanExporter {
  let isFailing = false
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        const { error } = result
        if (error !== undefined && !isFailing)
          logger.warn('the collector does not take traces, and those are lost', { error: error.message })
        if (error === undefined && isFailing) logger.info('the collector takes traces again')
        isFailing = error !== undefined
        done(result)
      }),
    shutdown: () => exporter.shutdown(),
  }
}
