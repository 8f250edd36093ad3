import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Choices } from './testing/choices.ts'
import { Fixture } from './testing/fixture.ts'
import { outcomeOf, PlainCopy, type Outcome } from './testing/plain-copy.ts'
import { StatementWriter } from './testing/random-statement.ts'
import { RandomWorld } from './testing/random-world.ts'

interface Expectation {
  readonly sql: string
  readonly expected: Outcome
  /** What there is without the statement's limit, where any of it may come. */
  readonly all: Outcome | null
}

/** How many statements ran, and how many of those could not. */
const counts = { run: 0, failed: 0 }

function compare(sql: string, actual: Outcome, { expected, all }: Expectation): void {
  counts.run++
  if (expected.rows === null) {
    counts.failed++
    // Which of a statement's errors comes first is not told.
    expect(actual.rows, sql).toBeNull()
  } else if (all === null || all.rows === null) {
    expect(actual, sql).toEqual(expected)
  } else {
    expect(actual.rows?.length, `${sql}: ${actual.error}`).toBe(expected.rows.length)
    const left = Map.groupBy(all.rows, (row) => row)
    for (const row of actual.rows ?? []) expect(left.get(row)?.pop(), sql).toBe(row)
  }
}

class Play {
  private readonly choices: Choices
  private readonly fixture: Fixture
  private readonly world: RandomWorld
  private ticket = 1_000_000n

  constructor(choices: Choices, fixture: Fixture) {
    this.choices = choices
    this.fixture = fixture
    this.world = new RandomWorld(choices, fixture)
  }

  /** Some changes, then some statements at once, some of them more than once, at an LSN that is still held. */
  async round(): Promise<void> {
    const { choices, fixture, world } = this
    for (let step = 0; step < 6; step++) await world.step()
    const { lsn: latest } = world.tables[0]
    const lsn = latest - BigInt(choices.chance(50) ? 0 : choices.below(Number(latest - world.floor) + 1))
    const expectations = await this.expectations(lsn)
    fixture.files.limit = choices.pick([1, 2, Infinity])
    const running = expectations.flatMap((expectation) =>
      Array.from({ length: choices.pick([1, 1, 2, 3]) }, () => this.read(expectation, this.planned(lsn))),
    )
    for (const result of await Promise.allSettled(running)) if (result.status === 'rejected') throw result.reason
    if (choices.chance(20)) await fixture.engine.housekeep()
  }

  private async expectations(lsn: bigint): Promise<readonly Expectation[]> {
    const { choices, world } = this
    const copy = await PlainCopy.of(world.tables, lsn)
    try {
      const expectations: Expectation[] = []
      for (let count = 0; count < 8; count++) {
        const { sql, unlimited } = new StatementWriter(choices, world.tables).statement()
        const expected = await copy.outcome(sql)
        expectations.push({ sql, expected, all: unlimited === null ? null : await copy.outcome(unlimited) })
      }
      return expectations
    } finally {
      copy.close()
    }
  }

  private async read(expectation: Expectation, ticket: bigint): Promise<void> {
    const { sql } = expectation
    compare(sql, await outcomeOf(() => this.fixture.rows(sql, { lsn: ticket })), expectation)
  }

  /** The LSN to ask for to read at this one, whatever happens before. */
  private planned(lsn: bigint): bigint {
    const ticket = ++this.ticket
    this.fixture.leases.prepared.set(ticket, new Map(this.world.tables.map((table) => [table.name, table.plan(lsn)])))
    return ticket
  }
}

async function play(choices: Choices, rounds: number): Promise<void> {
  const [minMaskedRows, minDeadBits] = [choices.pick([1, 200, 50_000]), choices.pick([1, 100, 20_000])]
  const fixture = await Fixture.open({ maxQueries: 4, keepUnusedMs: choices.pick([0, 60_000]), minMaskedRows, minDeadBits })
  try {
    const game = new Play(choices, fixture)
    for (let round = 0; round < rounds; round++) await game.round()
    expect([fixture.leases.held, fixture.files.pinned]).toEqual([0, 0])
  } finally {
    await fixture.close()
  }
}

const { MOONLINK_SQL_RUNS: runs, MOONLINK_SQL_SEED: seed, MOONLINK_SQL_PATH: path } = process.env

describe('a statement over union reads', () => {
  test('property: gives what DuckDB gives over a plain copy of the rows', async () => {
    await fc.assert(
      fc.asyncProperty(fc.gen(), (generate) => play(new Choices(generate), 3)),
      { numRuns: Number(runs ?? 4), seed: Number(seed ?? 1), endOnFailure: true, ...(path ? { path } : {}) },
    )
    expect(counts.failed / counts.run).toBeLessThan(0.1)
  }, 3_600_000)
})
