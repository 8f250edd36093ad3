import { readFileSync } from 'node:fs'

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  readonly version: string
  readonly engines: { readonly node: string }
}

/** Of this package. */
export const packageVersion = manifest.version
/** The Node that it needs: `>=22.15`. */
export const neededNode = manifest.engines.node
