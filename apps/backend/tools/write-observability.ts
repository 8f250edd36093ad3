import { writeFileSync } from 'node:fs'
import { eventMetrics, stateMetrics, type Metric } from '../src/telemetry/metrics.ts'

/** Writes docs/OBSERVABILITY.md from the list of metrics. */
const row = ({ name, kind, labels, help }: Metric) =>
  `| \`${name}\` | ${kind} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`
const tableOf = (metrics: readonly Metric[]) =>
  ['| metric | kind | labels | meaning |', '| --- | --- | --- | --- |', ...metrics.map(row)].join('\n')

const text = `# Observability

<!-- Made from apps/backend/src/telemetry/metrics.ts by \`pnpm exec node apps/backend/tools/write-observability.ts\`; do not edit. -->

## Metrics

\`GET /metrics\` of the HTTP API, in Prometheus' text format; with \`http.token\` set, scrape with that bearer token. [\`ops/alerts.yaml\`](../ops/alerts.yaml)
has alert rules, [\`ops/grafana-dashboard.json\`](../ops/grafana-dashboard.json) a dashboard. Positions in the log are bytes, so their differences are
bytes of write-ahead log.

### Counted as it happens

${tableOf(eventMetrics)}

### State

${tableOf(stateMetrics)}

The usual \`process_*\` and \`nodejs_*\` metrics (CPU, memory, event-loop lag) are there too.

## Traces

With \`telemetry.otlpEndpoint\` (or \`OTEL_EXPORTER_OTLP_ENDPOINT\`) spans go to an OpenTelemetry collector over OTLP/HTTP: \`flush\` with its phases
\`write\` and \`commit\`, \`compaction\`, \`copy\` (a first one or one that compares), \`verify\`, and \`query\`. Attributes name tables and LSNs, never values of rows; of an error its code (\`error.type\`).
A collector that does not take them is said in the log, and nothing waits for it.

## Logs

JSON lines in \`stateDir/moonlink.log\`, or on stderr with \`log.to: stderr\`: \`level\`, \`time\`, \`msg\`, and fields such as \`table\`, \`lsn\`, \`code\` and
\`error\`. Passwords, tokens and keys are never in them.
`
writeFileSync(new URL('../../../docs/OBSERVABILITY.md', import.meta.url), text)
