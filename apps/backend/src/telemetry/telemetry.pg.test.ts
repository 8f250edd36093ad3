import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from '../testing/backend-process.ts'
import { SpanCollector } from '../testing/span-collector.ts'
import { expectVerified } from '../testing/verified.ts'
import { eventMetrics, stateMetrics } from './metrics.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-telemetry-'))
const documented = readFileSync(join(import.meta.dirname, '../../../../docs/OBSERVABILITY.md'), 'utf8')
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess | null = null
beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(`CREATE TABLE items (id bigint PRIMARY KEY, secret text)`)
  await database.client.query(`INSERT INTO items SELECT i, 'hush' || i FROM generate_series(1, 500) i`)
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

const start = async (otlpEndpoint: string) => {
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', join(directory, database.name)], {
    OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint,
    MOONLINK_FLUSH_INTERVAL_MS: '100ms',
    MOONLINK_COMPACTION_MIN_FILES: '2',
  })
  return backend
}

test('the spans of a backend are those that the docs name; phases lie within commits, and nothing tells what rows hold', async () => {
  const collector = await SpanCollector.start()
  const running = await start(collector.endpoint)
  const compacted = async () =>
    Number(
      /^moonlink_commits_total\{table="public\.items",kind="compaction"\} (\d+)/m.exec(
        await (await fetch(`${running.url}/metrics`)).text(),
      )?.[1] ?? 0,
    )
  await expect
    .poll(async () => {
      await database.client.query(`INSERT INTO items SELECT (SELECT max(id) FROM items) + i, 'hush' || i FROM generate_series(1, 10) i`)
      await running.wait({ iceberg: true })
      return compacted()
    })
    .toBeGreaterThan(0)
  await running.query(`SELECT count(*) FROM public.items WHERE secret = 'hush7'`)
  await expectVerified(running.url, directory)
  expect(await running.stop()).toBe(0)
  collector.close()

  const traces = /## Traces\n([^#]*)/.exec(documented)![1]
  const named = [...traces.replace(/^.*OTLP\/HTTP:/s, '').matchAll(/`(\w+)`/g)].map(([, name]) => name)
  expect([...new Set(collector.spans.map(({ name }) => name))].sort()).toEqual(named.sort())
  const byId = new Map(collector.spans.map((span) => [span.spanId, span]))
  for (const { name, parentSpanId } of collector.spans)
    if (name === 'write' || name === 'commit') expect(byId.get(parentSpanId ?? '')?.name).toMatch(/^(flush|compaction|copy)$/)
  const flush = collector.spans.find(({ name }) => name === 'flush')!
  expect(flush.attributes).toEqual(
    expect.arrayContaining([
      { key: 'table', value: { stringValue: 'public.items' } },
      { key: 'lsn', value: { stringValue: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) as string } },
    ]),
  )
  expect(JSON.stringify(collector.spans)).not.toContain('hush')
})

test('every metric of the list is on the page, under the name, kind and labels it has there, and no other', async () => {
  const running = await start('http://127.0.0.1:1/')
  await database.client.query(`INSERT INTO items VALUES (1000, 'more')`)
  await running.wait({ iceberg: true })
  await running.query('SELECT count(*) FROM public.items')
  const page = await (await fetch(`${running.url}/metrics`)).text()
  for (const kind of ['copy', 'flush']) expect(page).toContain(`\nmoonlink_commits_total{table="public.items",kind="${kind}"} 1\n`)
  const kinds = [...page.matchAll(/^# TYPE (moonlink_\w+) (\w+)$/gm)].map(([, name, kind]) => ({ name, kind }))
  const all = [...eventMetrics, ...stateMetrics]
  expect(kinds).toEqual(expect.arrayContaining(all.map(({ kind, name }) => ({ name, kind }))))
  expect(kinds).toHaveLength(all.length)
  for (const { labels, name } of all) {
    const sample = new RegExp(`^${name}(?:_bucket)?\\{(.*)\\} `, 'm').exec(page)?.[1] ?? ''
    const used = [...sample.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((label) => label !== 'le')
    if (used.length > 0) expect(used.sort(), name).toEqual([...labels].sort())
  }
})

test.each(['that refuses', 'that answers nothing'])('a collector %s keeps no backend from mirroring, nor from its end', async (how) => {
  const taken: Socket[] = []
  const silent = createServer((socket) => taken.push(socket))
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const { port } = silent.address() as AddressInfo
  const running = await start(how === 'that refuses' ? 'http://127.0.0.1:1/' : `http://127.0.0.1:${port}/`)
  await database.client.query(`INSERT INTO items VALUES (1000, 'more')`)
  await running.wait({ iceberg: true })
  expect(await running.query('SELECT count(*) FROM public.items')).toEqual([[501]])
  expect(await running.stop(), running.said).toBe(0)
  const log = readFileSync(join(directory, database.name, 'moonlink.log'), 'utf8')
  if (how === 'that refuses') expect(log.match(/the collector does not take traces/g)).toHaveLength(1)
  silent.close()
  for (const socket of taken) socket.destroy()
})
