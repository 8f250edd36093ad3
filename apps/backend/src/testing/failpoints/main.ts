import { exitOf } from '../../cli/exit.ts'
import { start } from '../../cli/start.ts'
import { loadConfig } from '../../config/load.ts'
import { dyingAt, type Failpoint } from './failpoint.ts'

/** A backend that kills itself: `MOONLINK_FAILPOINT` is a `Failpoint`, armed by SIGUSR2 where it says nothing else. Configured by the environment alone. */
const { MOONLINK_FAILPOINT: spec, ...environment } = process.env
let isArmed = false
process.on('SIGUSR2', () => (isArmed = true))
try {
  const { config } = loadConfig({ environment, flags: {}, workingDirectory: process.cwd() })
  await start(
    config,
    dyingAt(JSON.parse(spec!) as Failpoint, () => isArmed),
  )
} catch (error) {
  const { status, line } = exitOf(error)
  process.stderr.write(`${line}\n`)
  process.exitCode = status
}
