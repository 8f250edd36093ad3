import { formatTableName, MoonlinkError, silentLogger, systemRandom, type TableName } from '@moonlink/core'
import { expect, test, vi } from 'vitest'
import { Acknowledger } from './acknowledger.ts'
import { OneAtATime } from './one-at-a-time.ts'
import { RememberedTables } from './remembered-tables.ts'
import type { BackendState } from './state.ts'
import { TableCommands, type TableCommandsOptions } from './table-commands.ts'
import { UnfinishedPurges, type UnfinishedPurgesOptions } from './unfinished-purges.ts'

const notWritten = new MoonlinkError('retry', 'STATE_NOT_WRITTEN', 'the disk is full.')

/** Commands over tables of which one is mirrored, and what becomes of the state that they write. */
function commanding() {
  const mirrored = new Set(['public.t'])
  const written: BackendState[] = []
  const outcomes: Error[] = []
  const remembered = new RememberedTables({
    store: {
      write: async (state) => {
        const failure = outcomes.shift()
        if (failure !== undefined) throw failure
        written.push(state)
      },
    },
    source: {
      history: { timeline: 1 } as never,
      identity: { systemIdentifier: '1', database: 'd', slot: 's' } as never,
      publicationMark: () => '',
    },
    state: null,
    mirror: () => undefined,
    live: () => [...mirrored],
    covered: () => [...mirrored],
    known: () => [...mirrored],
  })
  const check = vi.fn<() => Promise<void>>(() => Promise.resolve())
  const purge = vi.fn<() => Promise<void>>(() => Promise.resolve())
  const runOrPause = vi.fn<(names: readonly string[]) => Promise<void>>(() => Promise.resolve())
  const acknowledger = new Acknowledger({
    engine: { acknowledgeableLsn: () => 0n, restartLsn: () => 0n },
    log: null,
    lease: { check },
    floorLsn: 0n,
    slotLsn: 0n,
    remember: (lsn) => remembered.write(lsn),
    keptFromLsn: () => null,
    isOutdated: () => remembered.isOutdated,
  })
  const load = vi.fn<() => Promise<null>>(() => Promise.resolve(null))
  const requireCurrent = () => Promise.resolve()
  const purges = new UnfinishedPurges({
    acknowledger,
    clock: { nowMs: () => 0, sleep: () => new Promise(() => undefined) },
    engine: { removeListedFiles: () => Promise.resolve() },
    lease: { check, requireCurrent },
    logger: silentLogger,
    random: systemRandom,
    remembered,
    warehouse: { catalog: { drop: purge, load } },
  } as unknown as UnfinishedPurgesOptions)
  const nameOf = ({ table }: { table: TableName }) => formatTableName(table)
  const options = {
    acknowledger,
    changes: new OneAtATime(),
    engine: { mirror: () => undefined },
    lease: { check },
    loop: { pausedFor: (work: () => Promise<unknown>) => work() },
    mirrors: {
      add: async (tables: { table: TableName }[]) => {
        for (const listed of tables) mirrored.add(nameOf(listed))
        return new Set()
      },
      copies: { runOrPause, end: () => Promise.resolve() },
      has: (name: string) => mirrored.has(name),
      known: () => [...mirrored],
      locked: { add: () => undefined, delete: () => Promise.resolve(), has: () => true },
      remove: async (name: string) => void mirrored.delete(name),
      unopened: Object.assign(new Map(), { reasons: new Map() }),
      waitingFor: () => null,
    },
    purges,
    remembered,
    source: {
      position: () => Promise.resolve(),
      listTables: async () => ['t', 'u'].map((name) => ({ table: { schema: 'public', name }, refusal: null, notes: [] })),
    },
  }
  const commands = new TableCommands(options as unknown as TableCommandsOptions)
  return { check, commands, load, runOrPause, outcomes, purge, remembered, written }
}

test('a drop that could not be written down removes no files, is no success, and is written down when it is given again', async () => {
  const { commands, outcomes, purge, remembered, written } = commanding()
  outcomes.push(notWritten, notWritten)
  for (const isPurge of [true, true]) {
    const refusal = { kind: 'retry', code: 'NOT_RECORDED', message: expect.stringContaining(notWritten.message) as string }
    await expect(commands.drop('public.t', isPurge)).rejects.toMatchObject(refusal)
    expect(remembered.isOutdated).toBe(true)
  }
  expect(purge).not.toHaveBeenCalled()
  await commands.drop('public.t', true)
  expect(written.at(-1)).toMatchObject({ dropped: ['public.t'], mirrored: [], purging: {} })
  expect(written.at(-2)).toMatchObject({ dropped: ['public.t'], purging: { 'public.t': { uuid: null } } })
  expect(purge).toHaveBeenCalledExactlyOnceWith({ namespace: 'public', name: 't' }, true, expect.any(Function))
  await expect(commands.drop('public.t', false)).rejects.toMatchObject({ code: 'TABLE_UNKNOWN' })
})

test('where the catalog is away, a purge changes nothing', async () => {
  const { commands, load, purge, remembered, written } = commanding()
  const away = new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the directory is not there any more.')
  load.mockRejectedValueOnce(away)
  await expect(commands.drop('public.t', true)).rejects.toBe(away)
  expect([written, remembered.wasDropped('public.t')]).toEqual([[], false])
  expect(purge).not.toHaveBeenCalled()
})

test('a table is not added before what it left is removed, or given up', async () => {
  const { commands, purge, runOrPause, written } = commanding()
  const away = new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the store is away.')
  const unfinished = { kind: 'retry', code: 'PURGE_UNFINISHED', message: expect.stringContaining('the store is away') as string }
  purge.mockRejectedValueOnce(away).mockRejectedValueOnce(away)
  await expect(commands.drop('public.t', true)).rejects.toMatchObject(unfinished)
  expect((await commands.list()).tables[0]).toMatchObject({ name: 'public.t', mirrored: false, reason: unfinished.message })
  await expect(commands.add(['public.t'])).rejects.toMatchObject(unfinished)
  expect(runOrPause).not.toHaveBeenCalled()
  await commands.add(['public.t'])
  expect(written.at(-1)).toMatchObject({ added: ['public.t'], dropped: [], purging: {} })
  purge.mockRejectedValueOnce(away)
  await expect(commands.drop('public.t', true)).rejects.toMatchObject(unfinished)
  await commands.drop('public.t', false)
  expect(written.at(-1)).toMatchObject({ dropped: ['public.t'], purging: {} })
  await commands.add(['public.t'])
  expect(purge).toHaveBeenCalledTimes(4)
})

test('a table whose adding could not be written down is copied, and given again it is no table that is mirrored already', async () => {
  const { commands, runOrPause, outcomes, written } = commanding()
  outcomes.push(notWritten)
  await expect(commands.add(['public.u'])).rejects.toMatchObject({ kind: 'retry', code: 'NOT_RECORDED' })
  expect(runOrPause).toHaveBeenCalledExactlyOnceWith(['public.u'])
  await commands.add(['public.u'])
  expect(written.at(-1)).toMatchObject({ added: ['public.u'] })
  expect(runOrPause).toHaveBeenCalledOnce()
  for (const name of ['public.t', 'public.u']) await expect(commands.add([name])).rejects.toMatchObject({ code: 'TABLE_EXISTS' })
})

test('a backend that was taken over from confirms nothing, and removes no table that its successor may mirror', async () => {
  const { check, commands, purge } = commanding()
  const lost = new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over')
  const given = [
    () => commands.add(['public.u']),
    () => commands.drop('public.t', false),
    () => commands.add(['public.t']),
    () => commands.drop('public.t', true),
  ]
  for (const command of given) {
    check.mockRejectedValueOnce(lost)
    await expect(command()).rejects.toBe(lost)
    check.mockResolvedValueOnce().mockRejectedValueOnce(lost)
    await expect(command()).rejects.toBe(lost)
  }
  expect(purge).not.toHaveBeenCalled()
})

test('a table that was locked is copied once it is free, whatever keeps that from being written down', async () => {
  const { commands, runOrPause, outcomes } = commanding()
  outcomes.push(notWritten)
  const table = { schema: 'public', name: 'u' }
  await expect(commands.takeUp(table)).rejects.toBe(notWritten)
  expect(runOrPause).toHaveBeenCalledExactlyOnceWith(['public.u'])
})

test('what nobody asked for leaves a table alone that is paused by request when its turn comes', async () => {
  const turn = Promise.withResolvers<void>()
  const mirror = { currentPhase: 'paused', reason: 'SCHEMA_CHANGED another column.', status: () => ({ reason: mirror.reason }) }
  const beginResync = vi.fn<() => Promise<{ begun: string[] }>>(() => Promise.resolve({ begun: [] }))
  const options = {
    acknowledger: { remember: () => Promise.resolve() },
    changes: { run: (work: () => Promise<void>) => turn.promise.then(work) },
    loop: { pausedFor: (work: () => Promise<unknown>) => work() },
    mirrors: { mirror: () => mirror, beginResync, copies: { runOrPause: () => Promise.resolve() } },
  }
  const commands = new TableCommands(options as unknown as TableCommandsOptions)
  const resynced = commands.resyncUnasked('public.t', 'its columns changed')
  mirror.reason = 'PAUSED by request; moonlink tables resume public.t goes on.'
  turn.resolve()
  await resynced
  expect(beginResync).not.toHaveBeenCalled()
  await commands.resync('public.t', 'it was paused')
  expect(beginResync).toHaveBeenCalledOnce()
})

test('a pause that a successor may not have found is no success', async () => {
  const lost = new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over.')
  const done: string[] = []
  const options = {
    lease: { check: async () => Promise.reject(done.splice(0).length > 0 ? lost : new Error('it was looked at before')) },
    mirrors: { mirror: () => ({ pauseFor: async (code: string) => void done.push(code) }), locked: { delete: () => Promise.resolve() } },
  }
  await expect(new TableCommands(options as unknown as TableCommandsOptions).pause('public.t')).rejects.toBe(lost)
})

test('what is not to be waited for fails a list of tables; where the source is away, what is known is listed', async () => {
  const failure = { now: new MoonlinkError('retry', 'PG_UNREACHABLE', 'it is away.') }
  const statuses = new Map([['public.a', { state: 'streaming', reason: null }]])
  const options = {
    engine: { mirror: (name: string) => (statuses.has(name) && { status: () => statuses.get(name) }) || undefined },
    mirrors: {
      known: () => ['public.a', 'public.b', 'public.c', 'public.d'],
      has: (name: string) => name !== 'public.b',
      waitingFor: (name: string) => (name === 'public.c' ? 'it is locked' : null),
      unopened: { reasons: new Map([['public.b', 'PG_TABLE x']]) },
    },
    purges: { reasons: new Map() },
    source: { listTables: () => Promise.reject(failure.now) },
  }
  const commands = new TableCommands(options as unknown as TableCommandsOptions)
  const listed = { mirrored: true, notes: [] }
  expect(await commands.list()).toEqual({
    sourceReason: 'PG_UNREACHABLE it is away.',
    tables: [
      { ...listed, name: 'public.a', state: 'streaming', reason: null },
      { ...listed, name: 'public.b', state: 'failed', reason: 'PG_TABLE x' },
      { ...listed, name: 'public.c', state: 'copying', reason: 'it is locked' },
      { ...listed, name: 'public.d', state: 'copying', reason: null },
    ],
  })
  failure.now = new MoonlinkError('invalid', 'PG_PRIVILEGE', 'it may not.')
  await expect(commands.list()).rejects.toBe(failure.now)
})

test('a table whose copy was ended for a drop that fails is copied again', async () => {
  const failure = new MoonlinkError('retry', 'PG_UNREACHABLE', 'it is away.')
  const mirror = { reason: null as string | null, status: () => ({ reason: mirror.reason, table: { schema: 'public', name: 't' } }) }
  const beginResync = vi.fn<() => Promise<{ begun: string[] }>>(() => Promise.resolve({ begun: ['public.t'] }))
  const runOrPause = vi.fn<(names: readonly string[]) => Promise<void>>(() => Promise.resolve())
  const warn = vi.fn<() => void>()
  const options = {
    acknowledger: { remember: () => Promise.resolve() },
    changes: new OneAtATime(),
    engine: { mirror: () => mirror },
    logger: { warn },
    loop: { pausedFor: (work: () => Promise<unknown>) => work() },
    mirrors: {
      beginResync,
      copies: { runOrPause, end: async () => void (mirror.reason = 'COPY_ENDED its copy was ended, for it is dropped.') },
      has: () => true,
      locked: { delete: () => Promise.resolve() },
      remove: () => Promise.reject(failure),
    },
    purges: { has: () => false, giveUp: () => Promise.resolve() },
    remembered: { wasDropped: () => false },
    source: { position: () => Promise.resolve() },
  }
  const commands = new TableCommands(options as unknown as TableCommandsOptions)
  await expect(commands.drop('public.t', false)).rejects.toBe(failure)
  expect(runOrPause).toHaveBeenCalledExactlyOnceWith(['public.t'])
  beginResync.mockRejectedValueOnce(failure)
  await expect(commands.drop('public.t', false)).rejects.toBe(failure)
  expect(warn).toHaveBeenCalledOnce()
  options.mirrors.remove = () => Promise.reject(new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over'))
  await expect(commands.drop('public.t', false)).rejects.toMatchObject({ code: 'LEASE_LOST' })
  expect(beginResync).toHaveBeenCalledTimes(2)
})
