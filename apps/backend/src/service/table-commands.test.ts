import { MoonlinkError } from '@moonlink/core'
import { expect, test, vi } from 'vitest'
import { TableCommands, type TableCommandsOptions } from './table-commands.ts'

/** Of a table that was dropped earlier, and of which the files stayed. */
function purging(check: () => Promise<void>) {
  const drop = vi.fn<() => Promise<void>>(() => Promise.resolve())
  const options = {
    changes: { run: (work: () => Promise<void>) => work() },
    lease: { check },
    mirrors: { has: () => false, unopened: new Map() },
    remembered: { wasDropped: () => true },
    warehouse: { catalog: { drop } },
  }
  return { commands: new TableCommands(options as unknown as TableCommandsOptions), drop }
}

test('a backend that was taken over from removes no table, which its successor may mirror', async () => {
  const lost = new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over')
  const { commands, drop } = purging(() => Promise.reject(lost))
  await expect(commands.drop('public.t', true)).rejects.toBe(lost)
  expect(drop).not.toHaveBeenCalled()
})

test('what nobody asked for leaves a table alone that is paused by request when its turn comes', async () => {
  const turn = Promise.withResolvers<void>()
  const mirror = { currentPhase: 'paused', reason: 'SCHEMA_CHANGED another column.', status: () => ({ reason: mirror.reason }) }
  const beginResync = vi.fn<() => Promise<{ begun: string[] }>>(() => Promise.resolve({ begun: [] }))
  const options = {
    acknowledger: { remember: () => Promise.resolve() },
    changes: { run: (work: () => Promise<void>) => turn.promise.then(work) },
    loop: { pausedFor: (work: () => Promise<unknown>) => work() },
    mirrors: { mirror: () => mirror, beginResync, copyOrPause: () => Promise.resolve() },
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

test('the holder of the lease removes what was dropped', async () => {
  const { commands, drop } = purging(() => Promise.resolve())
  await commands.drop('public.t', true)
  expect(drop).toHaveBeenCalledExactlyOnceWith({ namespace: 'public', name: 't' }, true)
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
      unopened: new Map([['public.b', 'PG_TABLE x']]),
    },
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
