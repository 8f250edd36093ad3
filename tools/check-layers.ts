import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { layers, testOnly } from './layers.ts'

/**
 * Checks every import of every workspace package against `layers.ts`: only allowed packages, only their entry point, no relative
 * path out of the package, and every package imported is declared in package.json.
 */
const problems: string[] = []
const root = join(import.meta.dirname, '..')

for (const base of ['packages', 'apps']) {
  for (const name of readdirSync(join(root, base))) checkPackage(base, name)
}

if (problems.length > 0) {
  console.error(problems.join('\n'))
  console.error(`${problems.length} layer violations. Allowed edges are in tools/layers.ts.`)
  process.exit(1)
}
console.log(`layers: ${Object.keys(layers).length} packages, no violation`)

function checkPackage(base: string, name: string): void {
  const folder = join(root, base, name)
  const allowed = layers[name]
  if (!allowed) {
    problems.push(`${base}/${name}: not in tools/layers.ts`)
    return
  }
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, Record<string, string> | undefined>
  const declared = new Set([
    ...Object.keys(manifest['dependencies'] ?? {}),
    ...Object.keys(manifest['optionalDependencies'] ?? {}),
    ...Object.keys(manifest['peerDependencies'] ?? {}),
  ])
  const declaredForTests = new Set([...declared, ...Object.keys(manifest['devDependencies'] ?? {}), 'vitest', 'fast-check'])
  for (const dependency of declared) {
    const short = dependency.replace('@moonlink/', '')
    if (dependency.startsWith('@moonlink/') && !allowed.includes(short)) problems.push(`${base}/${name}: depends on ${dependency}`)
  }
  for (const file of sources(join(folder, 'src'))) {
    const isTest = file.includes('.test.') || file.includes('/testing/')
    for (const specifier of importsOf(readFileSync(file, 'utf8'))) {
      const where = `${file.slice(root.length + 1)}: imports ${specifier}`
      if (specifier.startsWith('.')) {
        if (!join(file, '..', specifier).startsWith(join(folder, 'src'))) problems.push(`${where}, outside its package`)
      } else if (specifier.startsWith('@moonlink/')) {
        const [, target, ...deep] = specifier.split('/')
        if (deep.length > 0) problems.push(`${where}: only a package's entry point may be imported`)
        if (!allowed.includes(target) && !(isTest && testOnly.includes(target))) problems.push(where)
        if (!(isTest ? declaredForTests : declared).has(specifier)) problems.push(`${where}, which package.json does not declare`)
      } else if (!specifier.startsWith('node:')) {
        const packageName = specifier.startsWith('@') ? specifier.split('/').slice(0, 2).join('/') : specifier.split('/')[0]
        if (!(isTest ? declaredForTests : declared).has(packageName)) problems.push(`${where}, which package.json does not declare`)
      }
    }
  }
}

function* sources(folder: string): Iterable<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* sources(path)
    else if (/\.(ts|mts)$/.test(entry.name)) yield path
  }
}

function* importsOf(text: string): Iterable<string> {
  for (const match of text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^'"`;]*?\bfrom\s+'([^']+)'/g)) yield match[1]
  for (const match of text.matchAll(/\bimport\(\s*'([^']+)'\s*\)|(?:^|\n)import\s+'([^']+)'/g)) yield match[1] ?? match[2]
}
