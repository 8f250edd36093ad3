import { assert, type Labels, type Telemetry } from '@moonlink/core'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { eventMetrics, stateMetrics, type StateMetricName } from './metrics.ts'
import type { Sample } from './state-gauges.ts'

/** Metrics in Prometheus' text format; spans are handed on to `spans`. */
export class PrometheusTelemetry implements Telemetry {
  readonly #registry = new Registry()
  readonly #counters = new Map<string, Counter>()
  readonly #histograms = new Map<string, Histogram>()
  readonly #gauges = new Map<StateMetricName, Gauge>()
  readonly #spans: Pick<Telemetry, 'span'>

  constructor(spans: Pick<Telemetry, 'span'>) {
    this.#spans = spans
    const registers = [this.#registry]
    for (const { name, kind, help, labels, buckets = [] } of eventMetrics) {
      const common = { name, help, labelNames: [...labels], registers }
      if (kind === 'counter') this.#counters.set(name, new Counter(common))
      else this.#histograms.set(name, new Histogram({ ...common, buckets: [...buckets] }))
    }
    for (const { name, help, labels } of stateMetrics) this.#gauges.set(name, new Gauge({ name, help, labelNames: [...labels], registers }))
    collectDefaultMetrics({ register: this.#registry })
  }

  count(name: string, by = 1, labels: Labels = {}): void {
    const counter = this.#counters.get(name)
    assert(counter !== undefined, 'a counter is in the list of metrics', { name })
    counter.inc(texts(labels), by)
  }

  observe(name: string, value: number, labels: Labels = {}): void {
    const histogram = this.#histograms.get(name)
    assert(histogram !== undefined, 'a histogram is in the list of metrics', { name })
    histogram.observe(texts(labels), value)
  }

  span<T>(name: string, labels: Labels, work: () => Promise<T>): Promise<T> {
    return this.#spans.span(name, labels, work)
  }

  /** The page to scrape, with the state as `samples` give it. */
  async page(samples: readonly Sample[]): Promise<string> {
    // Tables that were dropped have no samples any more. A gauge without labels would be reset to 0: where there is no sample, it has to be absent.
    for (const { labels, name } of stateMetrics) {
      const gauge = this.#gauges.get(name)!
      if (labels.length > 0) gauge.reset()
      else gauge.remove()
    }
    for (const { metric, labels, value } of samples) this.#gauges.get(metric)!.set(labels, value)
    return this.#registry.metrics()
  }
}

function texts(labels: Labels): Record<string, string | number> {
  return Object.fromEntries(Object.entries(labels).map(([key, value]) => [key, typeof value === 'boolean' ? String(value) : value]))
}
