import type { Telemetry } from '@moonlink/core'

export interface Spans extends Pick<Telemetry, 'span'> {
  /** Sends what is left. */
  close(): Promise<void>
}

const none: Spans = { span: (_name, _labels, work) => work(), close: async () => undefined }

/** Spans to an OpenTelemetry collector over OTLP/HTTP; without an endpoint none are made, and the libraries for it are not loaded. */
export async function openSpans(endpoint: string | undefined, serviceVersion: string): Promise<Spans> {
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
  const provider = new TracerProvider({
    resource: resources.resourceFromAttributes({ 'service.name': 'moonlink', 'service.version': serviceVersion }),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url: `${endpoint.replace(/\/+$/, '')}/v1/traces` }) })],
  })
  const tracer = provider.getTracer('moonlink', serviceVersion)
  return {
    span: (name, labels, work) =>
      tracer.startActiveSpan(name, { attributes: { ...labels } }, async (span) => {
        try {
          return await work()
        } catch (error) {
          span.recordException(error as Error)
          span.setStatus({ code: SpanStatusCode.ERROR, message: (error as Error).message })
          throw error
        } finally {
          span.end()
        }
      }),
    close: () => provider.shutdown(),
  }
}
