import { availableParallelism } from 'node:os'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { silentLogger, systemClock } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { playSeed, replayCommand } from './play.ts'
import { noTotals, type SimTotals } from './sim-totals.ts'

/**
 * Plays many seeds of the simulation of whole nodes, on all cores: `MOONLINK_SIM_RUNS` of them from `MOONLINK_SIM_SEED` on. Names each seed that fails with the command that
 * plays it again, and ends with status 1 where one did.
 */

/** So many are told of. */
const MAX_FAILURES = 20
/** Seeds that a worker plays before it asks for more. */
const SHARE = 10
const PROGRESS_RUNS = 500
const CI_SEED = 100_000_000

interface Share {
  readonly first: number
  readonly end: number
}

interface Played {
  readonly runs: number
  readonly failures: readonly { readonly seed: number; readonly message: string }[]
  readonly totals: SimTotals
}

async function play({ first, end }: Share): Promise<Played> {
  const totals = noTotals()
  const failures: { seed: number; message: string }[] = []
  for (let seed = first; seed < end; seed++) {
    try {
      await playSeed(seed, totals, silentLogger)
    } catch (error) {
      failures.push({ seed, message: (error as Error).message })
    }
  }
  return { runs: end - first, failures, totals }
}

async function main(): Promise<void> {
  const runs = Number(process.env['MOONLINK_SIM_RUNS'] ?? 2000)
  // The same in CI, so that a change does not fail for what it did not bring.
  const defaultSeed = process.env['CI'] === undefined ? Math.floor(systemClock.nowMs() % 1_000_000_000) : CI_SEED
  const first = Number(process.env['MOONLINK_SIM_SEED'] ?? defaultSeed)
  const startMs = systemClock.nowMs()
  const end = first + runs
  const totals: Record<string, number> = { ...noTotals() }
  let next = first
  let played = 0
  let failed = 0
  const take = (answer: Played): void => {
    if (Math.floor(played / PROGRESS_RUNS) < Math.floor((played + answer.runs) / PROGRESS_RUNS))
      console.log(`${played + answer.runs} of ${runs}`)
    played += answer.runs
    for (const [name, count] of Object.entries(answer.totals)) totals[name] += count as number
    for (const { seed, message } of answer.failures) console.log(`seed ${seed}: ${message}\n  ${replayCommand(seed)}`)
    failed += answer.failures.length
  }
  const work = () =>
    new Promise<void>((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url))
      const ask = (): void => {
        if (next >= end || failed >= MAX_FAILURES) {
          void worker.terminate().then(() => resolve())
          return
        }
        const share = { first: next, end: Math.min(end, next + SHARE) }
        next = share.end
        worker.postMessage(share, [])
      }
      worker.on('message', (answer: Played) => {
        take(answer)
        ask()
      })
      worker.on('error', reject)
      ask()
    })
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  console.log(totals)
  console.log(
    `simulation: ${played - failed} runs passed, ${failed} failed, seeds from ${first}, ${Math.round((systemClock.nowMs() - startMs) / 1000)} s`,
  )
  process.exitCode = failed > 0 ? 1 : 0
}

if (isMainThread) await main()
else {
  await loadRoaring()
  parentPort!.on('message', (share: Share) => void play(share).then((answer) => parentPort!.postMessage(answer, [])))
}
