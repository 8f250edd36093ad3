import { silentLogger, silentTelemetry, type Clock, type TableName } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { TableVerdict, VerifyTarget } from './verifier.ts'
import { Verification } from './verification.ts'

const table = (name: string): VerifyTarget => ({ table: { schema: 'public', name } })
const MIN_PAUSE_MS = 1000

/** The continuous mode until `untilMs`, in simulated time; a comparison takes as long as `tookMs` says, and waits before for as long as `waitMs` says. */
async function runFor(
  untilMs: number,
  share: number,
  tables: readonly VerifyTarget[],
  tookMs: (name: string) => number,
  { waitMs = 0, setForwardMs = 0 } = {},
) {
  let nowMs = 0
  let waitedMs = 0
  /** How far the wall clock was set forward. */
  let aheadMs = 0
  const compared: { name: string; fromMs: number; toMs: number }[] = []
  let end: () => void = () => undefined
  const ended = new Promise<void>((resolve) => (end = resolve))
  const clock: Clock = {
    nowMs: () => nowMs + aheadMs,
    sleep: async (ms, signal) => {
      await Promise.resolve()
      nowMs += ms
      if (nowMs < untilMs) return
      end()
      await new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
    },
  }
  const verify = async ({ table: { name } }: { table: TableName }): Promise<TableVerdict> => {
    nowMs += waitMs
    waitedMs += waitMs
    aheadMs += setForwardMs
    const fromMs = nowMs
    await Promise.resolve()
    nowMs += tookMs(name)
    compared.push({ name, fromMs, toMs: nowMs })
    if (name === 'bad') throw new Error('not now')
    return { table: `public.${name}`, equal: true, lsn: 1n, sourceRows: 1, mirrorRows: 1, differences: [] } as unknown as TableVerdict
  }
  const verification = new Verification({
    verifier: {
      verify,
      get waitedMs() {
        return waitedMs
      },
    },
    clock,
    monotonicMs: () => nowMs,
    logger: silentLogger,
    telemetry: silentTelemetry,
    targets: () => tables,
    share,
    minPauseMs: MIN_PAUSE_MS,
  })
  verification.start()
  if (share > 0) await ended
  await verification.stop()
  return { compared, nowMs, verification }
}

test('comparing all the time takes no more of the time than its share, and each table comes in turn, one that fails too', async () => {
  const took = (name: string) => ({ small: 10, bad: 700, large: 60_000 })[name]!
  for (const share of [0.01, 0.05, 0.5]) {
    const { compared, nowMs, verification } = await runFor(200 * 60_000 * (1 / share), share, ['small', 'bad', 'large'].map(table), took)
    const busyMs = compared.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0)
    // No less either, but for what comparisons that take no time do not use.
    expect(busyMs / nowMs).toBeLessThanOrEqual(share)
    expect(busyMs / nowMs).toBeGreaterThan(share * 0.9)
    expect(compared.length).toBeGreaterThan(300)
    for (let at = 3; at < compared.length; at++) expect(compared[at].name).toBe(compared[at - 3].name)
    for (let at = 1; at < compared.length; at++) expect(compared[at].fromMs - compared[at - 1].toMs).toBeGreaterThanOrEqual(MIN_PAUSE_MS)
    expect(verification.outcomes.get('public.large')).toMatchObject({ kind: 'verdict', verdict: { equal: true } })
    expect(verification.outcomes.get('public.bad')).toMatchObject({ kind: 'failed' })
  }
})

test('without a share nothing is compared by itself', async () => {
  expect((await runFor(60_000, 0, [table('small')], () => 10)).compared).toEqual([])
})

test('neither what a comparison waits for nor a clock that is set forward amid it makes the pause after it longer', async () => {
  const day = 86_400_000
  const share = 0.05
  for (const odd of [{ waitMs: day }, { setForwardMs: 365 * day }]) {
    const { compared } = await runFor(30 * day, share, [table('small')], () => 10_000, odd)
    for (let at = 1; at < compared.length; at++)
      expect(compared[at].fromMs - compared[at - 1].toMs - (odd.waitMs ?? 0)).toBe((10_000 * (1 - share)) / share)
    expect(compared.length).toBeGreaterThan(20)
  }
})
