import type { Clock } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { Refusal } from './outcomes.ts'
import type { Mirror } from './mirror.ts'
import { RefusedMirrors } from './refused-mirrors.ts'

interface FakeMirror {
  readonly name: string
  readonly currentPhase: 'streaming'
  readonly memory: { readonly freeableBytes: number }
  refusal: Refusal | null
  allowedAtMs: number | null
}

function setUp() {
  const world = { nowMs: 0 }
  const clock: Clock = { nowMs: () => world.nowMs, sleep: () => Promise.resolve() }
  const make = (name: string): FakeMirror => ({
    name,
    currentPhase: 'streaming',
    memory: { freeableBytes: 0 },
    refusal: null,
    allowedAtMs: null,
  })
  const [a, b] = ['a', 'b'].map(make)
  const refused = new RefusedMirrors(new Map([a, b].map((one) => [one.name, one as unknown as Mirror])), clock)
  const refuse = (mirror: FakeMirror, atMs: number, code = 'STORE_NOT_WRITABLE') => {
    world.nowMs = atMs
    mirror.refusal = { sinceMs: mirror.refusal?.sinceMs ?? atMs, lastMs: atMs, code, message: 'no' }
  }
  const allow = (mirror: FakeMirror, atMs: number) => {
    world.nowMs = atMs
    mirror.refusal = null
    mirror.allowedAtMs = atMs
  }
  const alone = (patienceMs: number) => refused.alone(patienceMs).map(({ name }) => name)
  return { a, b, allow, alone, refuse, world }
}

test('once what was refused to all is allowed, one that has not tried since is not taken for one that alone is refused', () => {
  const { a, b, allow, alone, refuse } = setUp()
  for (const mirror of [a, b]) refuse(mirror, 100)
  expect(alone(0)).toEqual([])
  allow(b, 5_000)
  expect(alone(0)).toEqual([])
  refuse(a, 6_000)
  expect(alone(0)).toEqual(['a'])
  allow(a, 7_000)
  expect(alone(0)).toEqual([])
})

test('a server that fails for one table is given more time than a missing permission', () => {
  const { a, b, allow, alone, refuse } = setUp()
  refuse(a, 100, 'CATALOG_UNAVAILABLE')
  allow(b, 200)
  expect(alone(0)).toEqual([])
  refuse(a, 29_000, 'CATALOG_UNAVAILABLE')
  expect(alone(0)).toEqual([])
  refuse(a, 31_000, 'CATALOG_UNAVAILABLE')
  expect(alone(0)).toEqual(['a'])
  expect(alone(60_000)).toEqual([])
})
