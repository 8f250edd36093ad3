import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MoonlinkError, silentLogger } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { StatusReport } from '../http/schemas.ts'
import { SpanCollector } from '../testing/span-collector.ts'
import { eventMetrics, stateMetrics } from './metrics.ts'
import { PrometheusTelemetry } from './prometheus.ts'
import { openSpans } from './spans.ts'
import { stateSamples } from './state-gauges.ts'

const root = join(import.meta.dirname, '../../../..')
const noSpans = await openSpans(undefined, '1', silentLogger)

const status: StatusReport = {
  source: {
    waits: ['the copy waits for the transaction of process 1'],
    notes: [],
    database: 'shop',
    serverVersion: '18.4',
    slot: 's',
    publication: 'p',
    connected: true,
    reason: null,
    sourceLsn: '1/10',
    confirmedFlushLsn: null,
    lagBytes: 7,
    lagMs: 2500,
    freshnessMs: null,
    slotStatus: 'reserved',
    slotHeadroomBytes: null,
  },
  log: null,
  warehouse: 'file:///w',
  tables: [
    {
      name: 'shop.orders',
      state: 'copying',
      reason: null,
      waitingFor: null,
      notes: [],
      rows: 50,
      appliedLsn: null,
      durableLsn: null,
      committedLsn: '0/F',
      lagBytes: 0,
      lagMs: 1500,
      metadataLocation: null,
      snapshotId: null,
      dataFiles: 2,
      deletionVectors: 1,
      memoryRows: 3,
      memoryBytes: 2048,
      spooledBytes: 4096,
      lastCommitTimeMs: null,
      copy: { estimatedRows: 200, bytes: 8192, totalBytes: 16_384, share: 0.25, leftMs: 1500 },
      verified: { result: 'different', atMs: 5000, lsn: '0/1', reason: null },
      unfit: [],
    },
  ],
}

const limits = { memory: { bytes: 10, limitBytes: 100 }, changeLogBytes: 1000, verifyShare: 0.05 }

test('the page has what was counted, what was observed and the state', async () => {
  const telemetry = new PrometheusTelemetry(noSpans)
  telemetry.count('moonlink_changes_total', 5, { table: 'shop.orders' })
  telemetry.observe('moonlink_freshness_seconds', 0.02)
  const page = await telemetry.page(stateSamples(status, limits))
  for (const line of [
    'moonlink_changes_total{table="shop.orders"} 5',
    'moonlink_freshness_seconds_bucket{le="0.025"} 1',
    'moonlink_freshness_seconds_bucket{le="0.01"} 0',
    'moonlink_source_lsn_bytes 4294967312',
    'moonlink_table_state{table="shop.orders",state="copying"} 1',
    'moonlink_table_state{table="shop.orders",state="failed"} 0',
    'moonlink_table_copy_ratio{table="shop.orders"} 0.25',
    'moonlink_table_spooled_bytes{table="shop.orders"} 4096',
    'moonlink_table_copy_bytes{table="shop.orders"} 8192',
    'moonlink_table_copy_left_seconds{table="shop.orders"} 1.5',
    'moonlink_table_verified{table="shop.orders"} 0',
    'moonlink_table_lag_seconds{table="shop.orders"} 1.5',
    'moonlink_slot_lag_seconds 2.5',
    'moonlink_verify_share 0.05',
    'moonlink_source_waits 1',
  ])
    expect(page.split('\n')).toContain(line)
  // An alert watches for little headroom: where nothing limits it, and where there is no log, there must be no sample, be it of 0.
  const samples = page.split('\n').filter((line) => !line.startsWith('#'))
  expect(samples.filter((line) => /^moonlink_(slot_headroom|slot_confirmed|change_log)/.test(line))).toEqual([])
  const limited = { ...status, source: { ...status.source, slotHeadroomBytes: 77 } }
  expect(await telemetry.page(stateSamples(limited, limits))).toContain('\nmoonlink_slot_headroom_bytes 77\n')
  // A table that is gone leaves the page.
  expect(await telemetry.page(stateSamples({ ...status, tables: [] }, limits))).not.toContain('moonlink_table_rows{')
  expect(() => telemetry.count('moonlink_unknown_total')).toThrow('list of metrics')
})

test('alert rules, dashboard and docs name metrics that exist, and the docs name all', () => {
  const known = new Set([...eventMetrics, ...stateMetrics].map(({ name }) => name))
  const read = (path: string) => readFileSync(join(root, path), 'utf8')
  const named = (text: string) => new Set([...text.matchAll(/moonlink_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, '')))
  for (const path of ['ops/alerts.yaml', 'ops/grafana-dashboard.json', 'docs/OBSERVABILITY.md'])
    for (const name of named(read(path))) expect(known, `${path} names ${name}`).toContain(name)
  expect([...known].filter((name) => !named(read('docs/OBSERVABILITY.md')).has(name))).toEqual([])
  // Positions are for sums of one's own; the others are told by what is beside them.
  const unwatched = [
    'moonlink_standby',
    'moonlink_source_lsn_bytes',
    'moonlink_slot_confirmed_lsn_bytes',
    'moonlink_table_durable_lsn_bytes',
    'moonlink_table_lag_bytes',
    'moonlink_table_memory_rows',
  ]
  const watched = named(read('ops/alerts.yaml') + read('ops/grafana-dashboard.json'))
  expect([...known].filter((name) => !watched.has(name))).toEqual(unwatched)
})

test('alert rules and dashboard go by labels that these metrics have', () => {
  const labelsOf = new Map([...eventMetrics, ...stateMetrics].map(({ name, labels }) => [name, labels as readonly string[]]))
  for (const path of ['ops/alerts.yaml', 'ops/grafana-dashboard.json']) {
    const text = readFileSync(join(root, path), 'utf8').replaceAll('\\"', '"')
    // Each expression, with what is said of its result.
    for (const piece of text.split(/- alert:|"targets"/)) {
      const metrics = [...piece.matchAll(/moonlink_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ''))
      if (metrics.length === 0) continue
      // Prometheus adds these.
      const labels = new Set([...metrics.flatMap((name) => labelsOf.get(name) ?? []), 'instance', 'job', 'le'])
      const used = [
        ...[...piece.matchAll(/[{,]\s*(\w+)\s*=~?\s*"/g)].map(([, label]) => label),
        ...[...piece.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => list.split(/,\s*/)),
        ...[...piece.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g)].map(([, label]) => label),
      ]
      for (const label of used) expect(labels, `${path}: ${piece.slice(0, 200)}`).toContain(label)
    }
  }
})

test('spans reach a collector, with their errors and parents', async () => {
  const collector = await SpanCollector.start()
  const spans = await openSpans(collector.endpoint, '1', silentLogger)
  await spans.span('flush', { table: 'a.b' }, async () => {
    const error = new MoonlinkError('invalid', 'SQL_ERROR', "could not convert 'a value' to INT32")
    await expect(spans.span('commit', {}, () => Promise.reject(error))).rejects.toThrow('a value')
  })
  await spans.close()
  collector.close()
  const flush = collector.spans.find(({ name }) => name === 'flush')!
  const commit = collector.spans.find(({ name }) => name === 'commit')!
  expect(commit.parentSpanId).toBe(flush.spanId)
  expect(commit.status.code).toBe(2)
  expect(JSON.stringify(commit)).toContain('SQL_ERROR')
  // Values of rows are in no trace.
  expect(JSON.stringify(commit)).not.toContain('a value')
})
