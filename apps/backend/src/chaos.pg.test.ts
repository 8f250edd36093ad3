import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ChaosRun } from './testing/chaos/chaos-run.ts'

/** MOONLINK_CHAOS_SECONDS=600 for a long run; MOONLINK_CHAOS_SEED for one that was printed; MOONLINK_CHAOS_KEEP=1 keeps its files. */
const seconds = Number(process.env['MOONLINK_CHAOS_SECONDS'] ?? 25)
const seed = Number(process.env['MOONLINK_CHAOS_SEED'] ?? (process.env['CI'] === undefined ? Date.now() % 1_000_000 : 22))

test(`real processes killed, frozen and cut off at random (seed ${seed})`, { timeout: (seconds + 240) * 1000 }, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-chaos-'))
  // Postgres runs under another account where we are root.
  chmodSync(directory, 0o755)
  const run = new ChaosRun({ directory, seconds, seed })
  try {
    await run.start()
    const report = await run.run()
    console.log(JSON.stringify({ faults: report.faults, transactions: report.transactions, reads: report.reads }))
    expect(report.wrong).toEqual([])
    expect(report.verified.stdout, report.verified.stderr).toMatch(
      /public\.bag: equal.*\npublic\.items: equal.*\npublic\.lists: equal.*\npublic\.shapes: equal/,
    )
    expect(report.verified.status).toBe(0)
    // How many there is time for depends on the machine; none would prove nothing.
    expect(report.reads).toBeGreaterThan(0)
    expect(await run.running.stop()).toBe(0)
  } finally {
    await run.close()
    if (process.env['MOONLINK_CHAOS_KEEP'] === undefined) rmSync(directory, { recursive: true, force: true })
    else console.log(`kept: ${directory}`)
  }
})
