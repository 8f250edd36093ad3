import { spawnSync } from 'node:child_process'

/** Everything that must hold before a change lands. `--no-test` leaves the tests out, for callers that ran them already. */
const steps: [name: string, command: string, args: string[]][] = [
  ['format', 'oxfmt', ['--check', '.']],
  ['build', 'tsc', ['-b']],
  ['lint', 'oxlint', ['--type-aware', '--deny-warnings']],
  ['layers', 'node', ['tools/check-layers.ts']],
  ['unused', 'knip', []],
  ['api', 'node', ['tools/api.ts', '--check']],
  ['packages', 'node', ['tools/check-packages.ts']],
  ['test', 'vitest', ['run', '--project', 'unit', '--project', 'sim', '--project', 'pg']],
]

const failed: string[] = []
const chosen = steps.filter(([name]) => name !== 'test' || !process.argv.includes('--no-test'))
for (const [name, command, args] of chosen) {
  console.log(`\n== ${name}`)
  const { status } = spawnSync(command, args, { stdio: 'inherit' })
  if (status !== 0) failed.push(name)
}
console.log(
  `\ncheck: ${chosen.length - failed.length} passed, ${failed.length} failed${failed.length > 0 ? ` (${failed.join(', ')})` : ''}`,
)
process.exit(failed.length > 0 ? 1 : 0)
