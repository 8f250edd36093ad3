import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Packs every package, checks each with publint, installs all of them into an empty project outside the workspace and imports
 * each one there, as somebody who installs them would.
 */
const root = join(import.meta.dirname, '..')
const scratch = mkdtempSync(join(tmpdir(), 'moonlink-pack-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))

const folders = ['packages', 'apps'].flatMap((base) => readdirSync(join(root, base)).map((name) => join(root, base, name)))
const manifests = folders.map((folder) => ({ folder, manifest: readManifest(folder) })).filter(({ manifest }) => !manifest.private)
const overrides: Record<string, string> = {}

for (const { folder, manifest } of manifests) {
  run('publint', ['--strict', folder], root)
  run('pnpm', ['pack', '--pack-destination', scratch], folder)
  overrides[manifest.name] = `file:${join(scratch, `${manifest.name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`)}`
}

writeFileSync(
  join(scratch, 'package.json'),
  JSON.stringify({ name: 'empty-project', private: true, type: 'module', dependencies: overrides }),
)
writeFileSync(
  join(scratch, 'pnpm-workspace.yaml'),
  `overrides:\n${Object.entries(overrides)
    .map(([name, file]) => `  '${name}': '${file}'\n`)
    .join('')}strictDepBuilds: false\n`,
)
run('pnpm', ['install', '--silent', '--no-frozen-lockfile'], scratch)
const names = manifests.map(({ manifest }) => manifest.name)
writeFileSync(
  join(scratch, 'use.mjs'),
  `for (const name of ${JSON.stringify(names)}) {
  const loaded = await import(name)
  if (Object.keys(loaded).length === 0 && name !== '@moonlink/union-read') throw new Error(name + ' exports nothing')
}
const { formatLsn, parseLsn } = await import('@moonlink/core')
if (formatLsn(parseLsn('16/B374D848')) !== '16/B374D848') throw new Error('core does not work')
process.exit(0)
`,
)
run('node', ['use.mjs'], scratch)
console.log(`packages: ${names.length} packed, installed and imported`)

function readManifest(folder: string): { name: string; version: string; private?: boolean } {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name: string; version: string; private?: boolean }
}

function run(command: string, args: string[], cwd: string): void {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (status === 0) return
  console.error(`${command} ${args.join(' ')} failed in ${cwd.replace(scratch, 'the empty project')}:\n${stdout}${stderr}`)
  process.exit(1)
}
