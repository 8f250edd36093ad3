import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'

export interface SentSpan {
  readonly name: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly status: { readonly code?: number }
  readonly attributes: readonly { readonly key: string; readonly value: Readonly<Record<string, unknown>> }[]
}

interface TracesRequest {
  readonly resourceSpans: readonly { readonly scopeSpans: readonly { readonly spans: readonly SentSpan[] }[] }[]
}

/** What spans are sent to, as an OpenTelemetry collector takes them over HTTP. */
export class SpanCollector {
  readonly spans: SentSpan[] = []
  private readonly server: Server

  private constructor() {
    this.server = createServer((request, response) => {
      void json(request).then((body) => {
        for (const { scopeSpans } of (body as TracesRequest).resourceSpans) this.spans.push(...scopeSpans.flatMap(({ spans }) => spans))
        response.end('{}')
      })
    })
  }

  static async start(): Promise<SpanCollector> {
    const collector = new SpanCollector()
    await new Promise<void>((resolve) => collector.server.listen(0, '127.0.0.1', resolve))
    return collector
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`
  }

  close(): void {
    this.server.close()
    this.server.closeAllConnections()
  }
}
