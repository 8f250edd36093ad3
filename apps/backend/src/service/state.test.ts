import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '@moonlink/core'
import { MemoryObjectStore } from '@moonlink/object-store'
import { damaged, damagedJson, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { StateFile } from './state-file.ts'
import { StateObject } from './state-object.ts'
import { encodeState, parseState, type BackendState, type StateStore } from './state.ts'

const root = mkdtempSync(join(tmpdir(), 'moonlink-state-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const state = (coveredLsn: bigint): BackendState => ({
  source: { systemIdentifier: '7', database: 'shop', slot: 'moonlink_shop' },
  coveredLsn,
  mirrored: ['public.a', 'public."b c"'],
  known: ['public.a', 'public."b c"', 'public.gone'],
  added: ['public.a'],
  dropped: ['public.gone'],
  purging: { 'public.gone': { uuid: '5d7a', metadataLocation: 's3://lake/public/gone/metadata/v5.metadata.json' } },
  commits: { 'public.a': 4n },
  timeline: 3,
  timelineSince: 0x3000028n,
  published: { 'public.a': '[null,null]' },
})

interface Place {
  open(): StateStore
  spoil(text: string): Promise<void>
}

const prefix = 'memory://lake/.moonlink/changelog/state/'
const places: Record<string, () => Place> = {
  'a file': () => {
    const directory = mkdtempSync(join(root, 'state-'))
    return {
      open: () => new StateFile(directory, silentLogger),
      spoil: async (text) => writeFileSync(join(directory, 'state.json'), text),
    }
  },
  'an object': () => {
    const store = new MemoryObjectStore()
    let epoch = 0
    return {
      open: () => new StateObject(store, prefix, ++epoch),
      spoil: async (text) => store.put(`${prefix}000000900.json`, new TextEncoder().encode(text)),
    }
  },
}

describe.each(Object.entries(places))('the state in %s', (_name, make) => {
  test('what was written last is read by the next run', async () => {
    const place = make()
    expect(await place.open().read()).toBeNull()
    const first = place.open()
    await first.write(state(5n))
    await first.write(state(2n ** 40n))
    const second = place.open()
    expect(await second.read()).toEqual(state(2n ** 40n))
    await second.write(state(2n ** 41n))
    expect(await place.open().read()).toEqual(state(2n ** 41n))
  })

  test('one of a later version is refused, and so is one that is none', async () => {
    const place = make()
    await place.spoil('{"version": 99}')
    await expect(place.open().read()).rejects.toMatchObject({ kind: 'invalid', code: 'STATE_VERSION' })
    await place.spoil('{"version": 2}')
    await expect(place.open().read()).rejects.toMatchObject({ kind: 'corrupt', code: 'STATE_CORRUPT' })
  })
})

describe('a state file that is damaged', () => {
  const make = async () => {
    const directory = mkdtempSync(join(root, 'damaged-'))
    const said: string[] = []
    const open = () => new StateFile(directory, { error: (message) => void said.push(message) })
    await open().write(state(5n))
    await open().write(state(9n))
    return { directory, open, said, path: join(directory, 'state.json') }
  }

  test.each(['', '{"version": 3', 'a directory'])('is read from its copy, which is said, and written anew (%s)', async (text) => {
    const { open, path, said } = await make()
    if (text === 'a directory') {
      rmSync(path)
      mkdirSync(path)
    } else writeFileSync(path, text)
    expect(await open().read()).toEqual(state(9n))
    expect(said).toEqual(['the state is damaged; its copy is used, and both are written anew'])
    if (text === 'a directory') return
    await open().write(state(10n))
    expect(await open().read()).toEqual(state(10n))
    expect(said).toHaveLength(1)
  })

  test.each(['', null])('with its copy, or without one, is refused', async (copy) => {
    const { open, path } = await make()
    writeFileSync(path, '{')
    if (copy === null) rmSync(`${path}.copy`)
    else writeFileSync(`${path}.copy`, copy)
    await expect(open().read()).rejects.toMatchObject({ code: 'STATE_CORRUPT', message: expect.stringContaining(path) as string })
  })

  test('with a copy that can not be read is not taken for lost', async () => {
    const { open, path } = await make()
    writeFileSync(path, '{')
    rmSync(`${path}.copy`)
    mkdirSync(`${path}.copy`)
    await expect(open().read()).rejects.toMatchObject({
      kind: 'retry',
      code: 'STATE_NOT_READ',
      message: expect.stringContaining('state.json.copy') as string,
    })
  })

  test('is not asked for where it was taken away, and what it says counts before its copy', async () => {
    const { directory, open, path } = await make()
    const older = mkdtempSync(join(root, 'older-'))
    await new StateFile(older, silentLogger).write(state(3n))
    cpSync(join(older, 'state.json'), join(directory, 'state.json'))
    expect(await open().read()).toEqual(state(3n))
    rmSync(path)
    expect(await open().read()).toBeNull()
  })
})

/** As each version that there was wrote it. */
const first = `{
  "version": 1,
  "acknowledgedLsn": "16/B374D848",
  "source": {
    "systemIdentifier": "7382615423",
    "database": "shop",
    "slot": "moonlink_shop"
  },
  "mirrored": [
    "public.orders"
  ],
  "added": [],
  "dropped": [
    "public.old"
  ]
}`
const versions = {
  first,
  second: first.replace('"version": 1', '"version": 2').replace('acknowledgedLsn', 'coveredLsn'),
  third: `{"version":3,"coveredLsn":"16/B374D848","source":{"systemIdentifier":"7382615423","database":"shop","slot":"moonlink_shop"},
    "mirrored":["public.orders"],"known":[],"added":[],"dropped":["public.old"],"published":{},"timeline":null,"timelineSince":null,"crc32":"507ecb6d"}`,
  fourth: `{"version":4,"coveredLsn":"16/B374D848","source":{"systemIdentifier":"7382615423","database":"shop","slot":"moonlink_shop"},
    "mirrored":["public.orders"],"known":[],"added":[],"dropped":["public.old"],"purging":{},"published":{},"timeline":null,"timelineSince":null,"crc32":"08fa44df"}`,
}

test.each(Object.entries(versions))('the state that the %s version wrote is read, and written as the present one', (_, text) => {
  const read = parseState(text, 'state.json')
  expect(read).toEqual({
    source: { systemIdentifier: '7382615423', database: 'shop', slot: 'moonlink_shop' },
    coveredLsn: 0x16b374d848n,
    mirrored: ['public.orders'],
    known: [],
    added: [],
    dropped: ['public.old'],
    purging: {},
    commits: {},
    published: {},
    timeline: null,
    timelineSince: null,
  })
  expect(parseState(encodeState(read), 'state.json')).toEqual(read)
})

test('what a stale holder of the lease writes does not count, and goes', async () => {
  const store = new MemoryObjectStore()
  const stale = new StateObject(store, prefix, 1)
  await stale.write(state(5n))
  const holder = new StateObject(store, prefix, 2)
  expect(await holder.read()).toEqual(state(5n))
  await holder.write(state(9n))
  await stale.write(state(6n))
  const next = new StateObject(store, prefix, 3)
  expect(await next.read()).toEqual(state(9n))
  await next.write(state(10n))
  const left: string[] = []
  for await (const { uri } of store.list(prefix)) left.push(uri)
  expect(left).toEqual([`${prefix}000000003.json`])
})

test('a flipped bit is noticed, wherever it changes what is said', () => {
  const whole = Buffer.from(encodeState(state(0x168ad738n)))
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const flipped = Buffer.from(whole)
    flipped[bit >> 3] ^= 1 << (bit & 7)
    let read: BackendState | null = null
    try {
      read = parseState(flipped.toString(), 'state.json')
    } catch (error) {
      expect(error).toMatchObject({ code: 'STATE_CORRUPT' })
    }
    if (read !== null) expect(read).toEqual(state(0x168ad738n))
  }
})

describe('a state that others wrote', () => {
  const texts = (value: unknown) => Array.isArray(value) && value.every((text) => typeof text === 'string')

  async function readAs(text: string): Promise<void> {
    const read = await readOrRefuse(() => parseState(text, 'state.json'))
    if (read === null) return
    expect(read.coveredLsn >= 0n && read.coveredLsn < 2n ** 64n).toBe(true)
    expect([read.mirrored, read.added, read.dropped].every(texts)).toBe(true)
    expect(Object.values(read.source).every((part) => typeof part === 'string')).toBe(true)
    expect(texts(Object.values(read.published))).toBe(true)
    for (const { metadataLocation, uuid } of Object.values(read.purging)) expect(texts([uuid ?? '', metadataLocation ?? ''])).toBe(true)
    expect(read.timeline === null || Number.isSafeInteger(read.timeline)).toBe(true)
  }

  test('is one, whatever is in it, or is refused', async () => {
    const whole = encodeState(state(5n))
    for (const { value } of damagedJson(JSON.parse(whole) as never)) {
      await readAs(JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? Number(item) : item)))
    }
    const bytes = new TextEncoder().encode(whole)
    await fc.assert(
      fc.asyncProperty(damages, (what) => readAs(new TextDecoder().decode(damaged(bytes, what)))),
      fuzzing(500),
    )
  })
})
