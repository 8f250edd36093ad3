import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { chaosListTables as listTables, chaosSeconds, chaosSeed, keepsChaos } from './testing/chaos/chaos-settings.ts'
import { ChaosRun } from './testing/chaos/chaos-run.ts'
import { DiskWarehouse } from './testing/chaos/disk-warehouse.ts'

const seconds = chaosSeconds(25)
const seed = chaosSeed(22)

test.each([
  ['real processes', false],
  ['two backends that take over from one another', true],
])(`%s, killed, frozen and cut off at random (seed ${seed})`, { timeout: (seconds * 2 + 240) * 1000 }, async (_, hasStandby) => {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-chaos-'))
  // Postgres runs under another account where we are root.
  chmodSync(directory, 0o755)
  const run = new ChaosRun({ directory, seconds, seed, hasStandby, listTables, openWarehouse: (place) => DiskWarehouse.open(place) })
  try {
    await run.start()
    const report = await run.run()
    const { wrong, verified, ...done } = report
    console.log(JSON.stringify(done))
    expect(wrong).toEqual([])
    expect(verified.stdout.match(/^public\.\w+: equal/gm), verified.stdout + verified.stderr).toHaveLength(3 + listTables)
    expect(verified.status).toBe(0)
    // How many there is time for depends on the machine; none would prove nothing.
    expect(done.reads).toBeGreaterThan(0)
    // A backend ends by itself where it was taken over from, and for nothing else.
    for (const ending of done.endings) expect(ending).toMatch(/LEASE_LOST|OTHER_MIRROR/)
    const names = (await run.running.tables()).map(({ name }) => name)
    expect(await run.stop()).toEqual([])
    expect(await run.unlistedFiles(names), 'files that no snapshot needs and nobody knows').toEqual([])
  } finally {
    await run.close()
    if (keepsChaos) console.log(`kept: ${directory}`)
    else rmSync(directory, { recursive: true, force: true })
  }
})
