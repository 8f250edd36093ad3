import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { chaosSeconds, chaosSeed, keepsChaos } from './testing/chaos/chaos-settings.ts'
import { ChaosRun } from './testing/chaos/chaos-run.ts'
import { DiskWarehouse } from './testing/chaos/disk-warehouse.ts'

const seconds = chaosSeconds(25)
const seed = chaosSeed(22)

test(`real processes killed, frozen and cut off at random (seed ${seed})`, { timeout: (seconds * 2 + 240) * 1000 }, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-chaos-'))
  // Postgres runs under another account where we are root.
  chmodSync(directory, 0o755)
  const run = new ChaosRun({ directory, seconds, seed, openWarehouse: (place) => DiskWarehouse.open(place) })
  try {
    await run.start()
    const report = await run.run()
    const { failedStarts, faults, reads, transactions } = report
    console.log(JSON.stringify({ faults, failedStarts, transactions, reads }))
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
    if (keepsChaos) console.log(`kept: ${directory}`)
    else rmSync(directory, { recursive: true, force: true })
  }
})
