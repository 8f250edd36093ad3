import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

/**
 * Each package's public API as text under `etc/api`: the declarations reachable from its entry point. `--check` fails where the
 * committed text differs from the build; `--update` writes it.
 */
const root = join(import.meta.dirname, '..')
const update = process.argv.includes('--update')
const stale: string[] = []

for (const name of readdirSync(join(root, 'packages')).sort()) {
  const entry = join(root, 'packages', name, 'dist', 'index.d.ts')
  if (!existsSync(entry)) throw new Error(`packages/${name} is not built: run pnpm build`)
  const text = declarationsFrom(entry)
  const committed = join(root, 'etc', 'api', `${name}.txt`)
  if (update) {
    mkdirSync(dirname(committed), { recursive: true })
    writeFileSync(committed, text)
  } else if (!existsSync(committed) || readFileSync(committed, 'utf8') !== text) stale.push(`etc/api/${name}.txt`)
}

if (stale.length > 0) {
  console.error(`The public API differs from its committed text: ${stale.join(', ')}.\nIf that is meant, run: pnpm api:update`)
  process.exit(1)
}
console.log(update ? 'api: written' : 'api: unchanged')

function declarationsFrom(entry: string): string {
  const seen = new Set<string>()
  const queue = [entry]
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    if (seen.has(file) || !existsSync(file)) continue
    seen.add(file)
    for (const match of readFileSync(file, 'utf8').matchAll(/from '(\.[^']+)'/g)) {
      queue.push(join(dirname(file), match[1].replace(/\.(js|ts)$/, '.d.ts')))
    }
  }
  const folder = dirname(entry)
  return [...seen]
    .sort((a, b) => (a === entry ? -1 : b === entry ? 1 : a < b ? -1 : 1))
    .map(
      (file) =>
        `// ${relative(folder, file)}\n${readFileSync(file, 'utf8')
          .replace(/\n?\/\/# sourceMappingURL.*\n?/g, '\n')
          .trim()}\n`,
    )
    .join('\n')
}
