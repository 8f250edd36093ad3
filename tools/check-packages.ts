import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { examples } from './examples.ts'

/**
 * Packs every package, checks each with publint, installs all of them into an empty project outside the workspace and imports
 * each one there, as somebody who installs them would. Then compiles and runs the examples of their pages.
 */
const root = join(import.meta.dirname, '..')
const scratch = mkdtempSync(join(tmpdir(), 'moonlink-pack-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))

const folders = ['packages', 'apps'].flatMap((base) => readdirSync(join(root, base)).map((name) => join(root, base, name)))
const manifests = folders.map((folder) => ({ folder, manifest: readManifest(folder) })).filter(({ manifest }) => !manifest.private)
const overrides: Record<string, string> = {}
/** Packages that examples use beside ours, as the workspace has them. */
const ofExamples = Object.fromEntries(
  ['pg', '@types/pg'].map((name) => [name, readManifest(join(root, 'packages/testkit/node_modules', name)).version]),
)

for (const { folder, manifest } of manifests) {
  run('publint', ['--strict', folder], root)
  run('pnpm', ['pack', '--pack-destination', scratch], folder)
  overrides[manifest.name] = `file:${join(scratch, `${manifest.name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`)}`
}

writeFileSync(
  join(scratch, 'package.json'),
  JSON.stringify({ name: 'empty-project', private: true, type: 'module', dependencies: { ...overrides, ...ofExamples } }),
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
await checkExamples()

/** Each page's \`ts\` blocks, one after another, are one program. */
async function checkExamples(): Promise<void> {
  const postgres = await startPostgres()
  const programs: string[] = []
  try {
    for (const { folder } of manifests) {
      const name = basename(folder)
      const { given = '', files = {}, replace, onlyCompiled } = examples[name] ?? {}
      const directory = join(scratch, 'examples', name)
      mkdirSync(directory, { recursive: true })
      for (const [file, text] of Object.entries(files)) writeFileSync(join(directory, file), text)
      const page = readFileSync(join(folder, 'README.md'), 'utf8')
      let code = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1]).join('\n')
      for (const [from, to] of Object.entries(replace?.({ directory, postgres: postgres.url }) ?? {})) {
        if (!code.includes(from)) fail(`the example of ${name} no longer has ${from}: mend tools/examples.ts`)
        code = code.replaceAll(from, to)
      }
      if (code === '') continue
      writeFileSync(join(directory, 'example.ts'), `${given}\n${code}${onlyCompiled === undefined ? '\nprocess.exit(0)\n' : ''}`)
      if (onlyCompiled === undefined) programs.push(directory)
    }
    compile()
    for (const directory of programs) run('node', ['example.ts'], directory)
  } finally {
    await postgres.stop()
  }
  console.log(`examples: ${programs.length} run`)
}

function compile(): void {
  const compilerOptions = {
    target: 'es2024',
    lib: ['es2024'],
    module: 'nodenext',
    types: ['node'],
    typeRoots: [join(root, 'node_modules/@types')],
    strict: true,
    skipLibCheck: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    // A page says what a call gives back by calling it.
    noUnusedLocals: false,
  }
  writeFileSync(join(scratch, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['examples'] }))
  run('tsc', ['-p', scratch], root)
}

/** A private Postgres with a table, in a process that ends with ours. */
async function startPostgres(): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const program = `
import { startPostgres } from '@moonlink/embedded-pg'
import pg from 'pg'
const server = await startPostgres({ database: 'shop' })
const client = new pg.Client(server.connectionString)
await client.connect()
await client.query('CREATE TABLE orders (id bigint PRIMARY KEY); INSERT INTO orders VALUES (1)')
await client.end()
console.log(server.connectionString)
process.stdin.once('end', () => server.stop()).resume()
`
  writeFileSync(join(scratch, 'postgres.mjs'), program)
  const child = spawn('node', ['postgres.mjs'], { cwd: scratch, stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return {
    url: line.toString().trim(),
    stop: async () => {
      child.stdin.end()
      await once(child, 'exit')
    },
  }
}

function readManifest(folder: string): { name: string; version: string; private?: boolean } {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name: string; version: string; private?: boolean }
}

function run(command: string, args: string[], cwd: string): void {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (status === 0) return
  fail(`${command} ${args.join(' ')} failed in ${cwd.replace(scratch, 'the empty project')}:\n${stdout}${stderr}`)
}

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}
