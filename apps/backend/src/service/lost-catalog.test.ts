import { MoonlinkError, type LoadedTable } from '@moonlink/core'
import { expect, test } from 'vitest'
import { refuseLostCatalog } from './lost-catalog.ts'
import type { BackendState } from './state.ts'

const state = (mirrored: readonly string[], published: readonly string[] = []): BackendState => ({
  source: { systemIdentifier: '7', database: 'shop', slot: 'moonlink_shop' },
  coveredLsn: 5n,
  mirrored,
  known: ['public.locked', ...mirrored, ...published],
  added: [],
  dropped: [],
  purging: {},
  commits: {},
  timeline: 1,
  timelineSince: 0n,
  published: Object.fromEntries(published.map((name) => [name, '[]'])),
})

/** Of a catalog that has these, and can't read those. */
const look = (from: BackendState, there: readonly string[], unread: readonly string[] = []) => {
  const load = async ({ namespace, name }: { readonly namespace: string; readonly name: string }) => {
    const table = `${namespace}.${name}`
    if (unread.includes(table)) throw new MoonlinkError('invalid', 'CATALOG_DENIED', 'no')
    return there.includes(table) ? ({} as LoadedTable) : null
  }
  return refuseLostCatalog(from, { catalog: { load } as never, uri: 's3://lake' })
}

test('a catalog that has none of the tables that were mirrored is told from one that lacks some', async () => {
  const lost = {
    kind: 'invalid',
    code: 'CATALOG_LOST',
    message: expect.stringMatching(/^s3:\/\/lake has none .*catalog\.onLost=copy/) as string,
  }
  await expect(look(state(['public.a', 'public.b']), [])).rejects.toMatchObject(lost)
  await expect(look(state(['public.a', 'public.b']), ['public.other'])).rejects.toMatchObject(lost)
  await look(state(['public.a', 'public.b']), ['public.b'])
  // It was paused.
  await expect(look(state([], ['public.a']), [])).rejects.toMatchObject(lost)
})

test('what was never in the catalog, or can not be looked at, says nothing', async () => {
  await look(state([]), [])
  await look(state(['public.a']), [], ['public.a'])
})
