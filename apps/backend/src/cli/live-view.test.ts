import { expect, test } from 'vitest'
import type { StatusReport, TableStatusReport } from '../http/schemas.ts'
import { statusLines } from './status-view.ts'
import { LiveView, PlainView } from './live-view.ts'

const table: TableStatusReport = {
  name: 'shop.orders',
  state: 'streaming',
  reason: null,
  waitingFor: null,
  notes: [],
  rows: 12_345,
  appliedLsn: '0/20',
  durableLsn: '0/10',
  committedLsn: '0/10',
  lagBytes: 0,
  lagMs: 0,
  metadataLocation: null,
  snapshotId: '5',
  dataFiles: 2,
  deletionVectors: 1,
  memoryRows: 3,
  memoryBytes: 2048,
  spooledBytes: 4096,
  lastCommitTimeMs: null,
  copy: null,
  verified: null,
  unfit: [],
}
const status = (over: Partial<TableStatusReport> = {}): StatusReport => ({
  source: {
    slotStatus: null,
    slotHeadroomBytes: null,
    database: 'shop',
    serverVersion: '18.4',
    slot: 'moonlink',
    publication: 'moonlink',
    connected: true,
    reason: null,
    waits: [],
    notes: [],
    sourceLsn: '0/20',
    confirmedFlushLsn: '0/10',
    lagBytes: 16,
    lagMs: 0,
    freshnessMs: 4,
  },
  log: null,
  warehouse: 'file:///w',
  tables: [{ ...table, ...over }],
})

test('what waits for a transaction of the source is said once, however many tables it concerns', () => {
  const waitingFor = 'the copy waits for the transaction of process 7'
  const { source, ...rest } = status({ state: 'copying', waitingFor })
  const lines = statusLines({ ...rest, source: { ...source, waits: [waitingFor] } })
  expect(lines.filter((line) => line.includes(waitingFor))).toEqual([`waiting: ${waitingFor}`])
  expect(new PlainView().lines(status({ state: 'copying', waitingFor }))[0]).toContain(`copying (${waitingFor})`)
})

test('what is worth knowing of the source, or of a mirror, is said', () => {
  const { source, ...rest } = status()
  const risk = 'Postgres 17 does not tell standbys'
  expect(statusLines({ ...rest, source: { ...source, notes: [risk] } })).toContain(`note: ${risk}`)
  const note = 'column "x" is left out'
  expect(statusLines(status({ notes: [note] })).filter((line) => line.includes(note))).toEqual([`shop.orders: ${note}`])
})

test('the view redraws in place and never passes the screen', () => {
  let written = ''
  const view = new LiveView({ columns: 40, rows: 6, write: (text) => (written += text) })
  view.draw(status())
  const first = written
  expect(first).not.toContain('\u001b[5A')
  expect(first.split('\n')).toHaveLength(6)
  expect(first).toContain('… and 3 more; moonlink status')
  written = ''
  const copy = { estimatedRows: 24_690, bytes: 5 * 2 ** 30, totalBytes: 10 * 2 ** 30, share: 0.5, leftMs: 180_000 }
  view.draw(status({ state: 'copying', copy }))
  expect(written.startsWith('\u001b[5A\r')).toBe(true)
  const lines = statusLines(status({ state: 'copying', copy }))
  expect(lines.join('\n')).toContain('copying █████░░░░░ 50 %')
  expect(lines.join('\n')).toContain('newest change readable 4 ms after its commit')
  expect(lines.at(-1)).toBe('shop.orders: 5.0 GiB of 10.0 GiB copied, 3 min left')
})

test('where there is no room for all columns, the ones that matter least are left out', () => {
  const lines = (room?: number) =>
    statusLines(status({ name: 'shop.order_lines', rows: 1_234_567, appliedLsn: '1A/2866438', committedLsn: '1A/2866438' }), room)
  const head = (room?: number) => lines(room).find((line) => line.startsWith('table'))
  expect(head()).toMatch(/applied.*memory.*vectors$/)
  expect(head(90)).toMatch(/applied +committed +lag +files +vectors$/)
  expect(head(80)).toMatch(/applied +committed +lag +files$/)
  expect(head(40)).toMatch(/rows +committed +lag +files$/)
  expect(lines(80).every((line) => line.length < 80 || !line.startsWith('shop'))).toBe(true)
})

test('plain lines tell what changed, not that LSNs move', () => {
  const view = new PlainView()
  expect(view.lines(status())).toHaveLength(1)
  expect(view.lines(status({ appliedLsn: '0/30' }))).toEqual([])
  expect(view.lines(status({ rows: 12_346 }))[0]).toContain('12,346 rows')
  expect(view.lines(status({ state: 'paused', reason: 'SCHEMA_CHANGED x' }))[0]).toContain('paused (SCHEMA_CHANGED x)')
})

test('names and reasons do not drive the terminal', () => {
  const odd = { name: 'a.\u001b[2J\nb', reason: 'PAUSED \u009b1m', state: 'paused' } as const
  const lines = statusLines(status(odd))
  expect(lines.join('')).not.toMatch(/\p{Control}/u)
  expect(lines.find((line) => line.startsWith('a.\\x1B[2J\\nb  paused'))).toBeDefined()
  let written = ''
  const view = new LiveView({ columns: 80, rows: 24, write: (text) => (written += text) })
  view.note('not mirrored: a.\u001b[2J')
  view.draw(status(odd))
  expect(written).not.toContain('[2Jb')
  expect(written).not.toContain('\u001b[2J')
})
