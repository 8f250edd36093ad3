import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { stringifyJsonLossless, type JsonValue } from '@moonlink/core'
import { damaged, damagedJson, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { exitOf, ExitStatus } from './exit.ts'
import { createProgram } from './program.ts'

const table = {
  name: 'public.a',
  state: 'copying',
  reason: null,
  waitingFor: null,
  notes: [],
  rows: 5,
  appliedLsn: '0/10',
  durableLsn: '0/10',
  committedLsn: null,
  lagBytes: 0,
  lagMs: 20_000,
  metadataLocation: null,
  snapshotId: '7',
  dataFiles: 1,
  deletionVectors: 0,
  memoryRows: 1,
  memoryBytes: 1,
  spooledBytes: 0,
  lastCommitTimeMs: 1,
  copy: { estimatedRows: 10, bytes: 5, totalBytes: 10, share: 0.5, leftMs: 100 },
  verified: { result: 'equal', atMs: 1, lsn: '0/10', reason: null },
  unfit: [{ column: 'b', action: 'null', values: 3 }],
}
const status = {
  source: {
    database: 'shop',
    serverVersion: '18',
    slot: 's',
    publication: 'p',
    connected: false,
    reason: 'gone',
    waits: ['a transaction'],
    notes: ['a note'],
    sourceLsn: '0/20',
    confirmedFlushLsn: '0/10',
    lagBytes: 1,
    lagMs: 1,
    freshnessMs: 1,
    slotStatus: 'unreserved',
    slotHeadroomBytes: 5,
  },
  log: { startLsn: '0/1', endLsn: '0/10', bytes: 9, maxBytes: 90, reason: null },
  warehouse: 'w',
  tables: [table],
}
const verdict = {
  table: 'public.a',
  result: 'equal',
  lsn: '0/10',
  sourceRows: 1,
  mirrorRows: 1,
  differences: [{ kind: 'extra', key: ['1', null] }],
  moreDifferences: false,
  durationMs: 1,
  reason: null,
}
const result = [
  {
    lsn: '0/10',
    columns: [
      { name: 'a', type: 'INTEGER' },
      { name: 'b', type: 'VARCHAR' },
    ],
  },
  [1, 'x'],
  [2n ** 60n, null],
  { rowCount: 2 },
]
const error = { error: { kind: 'retry', code: 'TIMED_OUT', message: 'too late.', context: { a: 1 } } }

/** Commands, with what a backend answers them in as many lines. */
const commands: readonly (readonly [words: readonly string[], answer: readonly unknown[]])[] = [
  [['status'], [status]],
  [['status', '--json'], [status]],
  [['query', 'SELECT 1'], result],
  [['query', 'SELECT 1', '--format', 'csv'], result],
  [['query', 'SELECT 1', '--format', 'json'], result],
  [['wait'], [{ lsn: '0/10' }]],
  [['flush'], [{ tables: [{ name: 'public.a', committedLsn: '0/10', snapshotId: null }] }]],
  [
    ['verify', 'public.a'],
    [{ progress: { table: 'public.a', phase: 'rows', done: 0.5 } }, verdict],
  ],
  [
    ['verify', '--json'],
    [verdict, verdict],
  ],
  [['tables', 'list'], [{ tables: [{ name: 'public.a', mirrored: true, state: null, reason: null, notes: ['n'] }], sourceReason: null }]],
  [['tables', 'pause', 'public.a'], [{ done: true }]],
]
const whole = (lines: readonly unknown[]) => lines.map((line) => `${stringifyJsonLossless(line as JsonValue)}\n`).join('')

let answer: (response: ServerResponse) => void
const server = createServer((request, response) => {
  request.resume()
  answer(response)
})
let printed = ''
beforeAll(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)))
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  printed = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text)
    return true
  })
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
})
afterEach(() => {
  vi.restoreAllMocks()
})

/** The line that says why it failed; null where it did not. */
async function run(words: readonly string[]): Promise<string | null> {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    await createProgram({}, '/nowhere').parseAsync([...words, '--url', url], { from: 'user' })
    return null
  } catch (thrown) {
    const { line, status } = exitOf(thrown)
    expect(Object.values(ExitStatus)).toContain(status)
    expect(line).not.toMatch(/\n|^UNEXPECTED/)
    return line
  }
}

test.each(commands)('%j: what is damaged below is an answer', async (words, lines) => {
  answer = (response) => response.end(whole(lines))
  expect(await run(words)).toBeNull()
})

test('whatever answers, each command ends, with what was answered or a line that says why not', async () => {
  const lies = commands.map(([words, lines]) => {
    const spoiled = lines.flatMap((line, index) =>
      Array.from(damagedJson(line as JsonValue), ({ value }) => whole(lines.with(index, value))),
    )
    return [words, fc.constantFrom(...spoiled, ...lines.map((_, index) => whole([...lines.slice(0, index), error])))] as const
  })
  const lie = fc.constantFrom(...lies).chain(([words, texts]) =>
    fc.tuple(
      fc.constant(words),
      texts.map((text) => Buffer.from(text)),
    ),
  )
  const damage = fc
    .tuple(fc.constantFrom(...commands), damages)
    .map(([[words, lines], what]) => [words, damaged(Buffer.from(whole(lines)), what)] as const)
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(lie, damage),
      fc.constantFrom(200, 200, 200, 204, 302, 401, 500, 503),
      fc.constantFrom(0, 0, 0, 5),
      async ([words, bytes], code, missing) => {
        answer = (response) => {
          response.writeHead(code, missing > 0 && code !== 204 ? { 'content-length': bytes.length + missing } : {})
          response.write(bytes, () => (missing > 0 ? response.destroy() : response.end()))
        }
        printed = ''
        const line = await run(words)
        if (line === null) {
          expect(code).toBeLessThan(300)
          expect(printed).not.toContain('undefined')
        }
      },
    ),
    fuzzing(400),
  )
})

test.each(commands)('%j: an answer that is cut off is no answer', async (words, lines) => {
  for (const kept of lines.keys()) {
    answer = (response) => {
      response.write(whole(lines.slice(0, kept)) || ' ', () => response.destroy())
    }
    expect(await run(words)).toMatch(/^(RESULT_CUT|BACKEND_UNREACHABLE) /)
  }
})

test('a comparison of fewer tables than were named has not been made', async () => {
  answer = (response) => response.end(whole([verdict]))
  expect(await run(['verify', 'public.a', 'public.b'])).toMatch(/^RESULT_CUT .*1 of 2 tables/)
})
