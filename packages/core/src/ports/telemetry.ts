/** What tells one series of a metric, or one span, from others of its name. */
export type Labels = Readonly<Record<string, string | number | boolean>>

/**
 * What a running mirror tells of itself beside its log: counters, histograms and spans. Names are the implementer's to know; labels never hold secrets
 * or values of rows.
 *
 * Not promised: that anything is kept. Calls are cheap and never throw on their own.
 */
export interface Telemetry {
  /** Adds to a counter. Default: 1. */
  count(counter: string, by?: number, labels?: Labels): void
  /** Records a value of a histogram: seconds or bytes, as its name ends. */
  observe(histogram: string, value: number, labels?: Labels): void
  /** Runs work within a span, which ends as the work does, with its error. Spans begun within are its children. */
  span<T>(name: string, labels: Labels, work: () => Promise<T>): Promise<T>
}

/** Tells nobody; spans run their work. */
export const silentTelemetry: Telemetry = { count() {}, observe() {}, span: (_name, _labels, work) => work() }
