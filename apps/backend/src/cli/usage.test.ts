import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { exitOf } from './exit.ts'
import { createProgram } from './program.ts'

let printed = ''
beforeEach(() => {
  printed = ''
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed += String(text)
    return true
  })
})
afterEach(() => {
  vi.restoreAllMocks()
})

async function run(...words: string[]): Promise<{ status: number; said: string }> {
  try {
    await createProgram({}, '/nowhere').parseAsync(words, { from: 'user' })
  } catch (error) {
    const { status, line } = exitOf(error)
    return { status, said: line === null ? printed : `${printed}${line}\n` }
  }
  throw new Error('this was to fail')
}

test.each<[string[], string]>([
  [['strat'], "unknown command 'strat'; did you mean start? (moonlink --help tells more)"],
  [['start', '--sorce', 'x'], "unknown option '--sorce'; did you mean --source? (moonlink start --help tells more)"],
  [['tables', 'lst'], "unknown command 'lst'; did you mean list? (moonlink tables --help tells more)"],
  [['tables', 'drop'], "missing required argument 'table' (moonlink tables drop --help tells more)"],
  [['status', 'x'], "too many arguments for 'status'. Expected 0 arguments but got 1: x (moonlink status --help tells more)"],
  [['query', ' '], 'the statement is empty; write one SELECT.'],
  [['query', 'SELECT 1', '--format', 'xml'], '--format must be table, json or csv, not "xml".'],
  [['wait', '--timeout', '5'], '--timeout 5 has no unit; write 5s, or 5ms, 5m.'],
  [['query', 'SELECT 1', '--timeout', '1.5'], '--timeout 1.5 has no unit; write 1.5s, or 1.5ms, 1.5m.'],
  [['role-sql', '--table', 'orders'], '"orders" is not a table name; write schema.name, as in public.orders.'],
  [['flush', 'orders'], '"orders" is not a table name; write schema.name, as in public.orders.'],
  [['verify', 'public.a', 'orders'], '"orders" is not a table name; write schema.name, as in public.orders.'],
  [['tables', 'add', 'orders'], '"orders" is not a table name; write schema.name, as in public.orders.'],
  [['tables', 'pause', '"a.b'], '""a.b" is not a table name; write schema.name, as in public.orders.'],
  [['tables', 'pause', '.orders'], '".orders" is not a table name; write schema.name, as in public.orders.'],
])('%j is wrong usage, and one line says why and what to write', async (words, said) => {
  expect(await run(...words)).toEqual({ status: 2, said: `USAGE ${said}\n` })
})
