import { fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { exitOf, ExitStatus } from './exit.ts'
import { createProgram } from './program.ts'

/** Nobody listens there. */
const NOWHERE = 'http://127.0.0.1:1'
/** A setting that is wrong, so that nothing is started whatever the other flags are. */
const WRONG = ['--set', 'log.level=nonsense']
const odd = fc.oneof(
  fc.constantFrom(
    '',
    ' ',
    '-',
    '--',
    '-1',
    '0.5',
    '1e999',
    '9'.repeat(400),
    'x=',
    '=x',
    'a.b.c.d=1',
    '__proto__.x=1',
    'constructor.prototype.x=1',
    'toString=1',
    'source=1',
  ),
  fc.constantFrom(
    'a\u0000b',
    'http://',
    'file:///etc/passwd',
    'http://[::1',
    'FFFFFFFFF/0',
    '-1/-1',
    "x'; DROP TABLE y; --.z",
    '1.1',
    '.',
    'x.',
  ),
  fc.string({ maxLength: 12, unit: 'binary' }),
)
const lines: ((value: string) => string[])[] = [
  (value) => ['query', 'SELECT 1', '--url', NOWHERE, '--timeout', value],
  (value) => ['query', 'SELECT 1', '--url', NOWHERE, '--at-lsn', value],
  (value) => ['query', 'SELECT 1', '--url', NOWHERE, '--format', value],
  (value) => ['query', value, '--url', NOWHERE],
  (value) => ['status', '--url', value],
  (value) => ['wait', '--url', NOWHERE, '--timeout', '0', '--lsn', value],
  (value) => ['flush', value, '--url', NOWHERE],
  (value) => ['tables', 'drop', value, '--url', NOWHERE],
  (value) => ['tables', value],
  (value) => ['role-sql', '--table', value],
  (value) => ['role-sql', '--table', 'public.a', '--service', value],
  (value) => ['start', ...WRONG, '--set', value],
  (value) => ['start', ...WRONG, '--source', value],
  (value) => ['start', ...WRONG, '--http', value],
  (value) => ['start', ...WRONG, '--warehouse', value, '--state-dir', value, '--table', value],
  (value) => ['start', ...WRONG, '--config', value],
  (value) => ['ddl', 'install', ...WRONG, '--source', value],
  (value) => ['ddl', value],
  (value) => [value],
]

beforeEach(() => {
  vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
})
afterEach(() => {
  vi.restoreAllMocks()
})

test('a command line of any words ends with a status that says why, in one line', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...lines), odd, async (lineOf, value) => {
      try {
        await createProgram({}, '/nowhere').parseAsync(lineOf(value), { from: 'user' })
      } catch (error) {
        const { status, line } = exitOf(error)
        expect(Object.values(ExitStatus)).toContain(status)
        expect(line ?? '').not.toMatch(/\n|^UNEXPECTED/)
      }
    }),
    fuzzing(600),
  )
  expect(Object.keys(Object.prototype)).toEqual([])
  expect(({} as { x?: unknown }).x).toBeUndefined()
})
