/**
 * Who may import whom: each workspace package and the workspace packages it may depend on. `docs/ARCHITECTURE.md` has the reasons.
 * Dev dependencies (tests) may add those of `testOnly`.
 */
export const layers: Readonly<Record<string, readonly string[]>> = {
  core: [],
  'arrow-buffer': ['core'],
  'pk-index': ['core'],
  'deletion-log': ['core'],
  'union-read': ['core'],
  'table-engine': ['core', 'arrow-buffer', 'pk-index', 'deletion-log', 'union-read'],
  'change-log': ['core'],
  'object-store': ['core'],
  'iceberg-writer': ['core'],
  'catalog-rest': ['core'],
  'pg-source': ['core'],
  sql: ['core', 'union-read'],
  'embedded-pg': ['core'],
  testkit: ['core', 'embedded-pg'],
  backend: [
    'core',
    'pg-source',
    'arrow-buffer',
    'pk-index',
    'deletion-log',
    'table-engine',
    'change-log',
    'object-store',
    'iceberg-writer',
    'catalog-rest',
    'union-read',
    'sql',
    'embedded-pg',
  ],
  bench: ['core', 'backend', 'embedded-pg', 'pg-source'],
}

/** What tests may import besides. */
export const testOnly: readonly string[] = [
  'testkit',
  'change-log',
  'embedded-pg',
  'object-store',
  'deletion-log',
  'iceberg-writer',
  'arrow-buffer',
]
