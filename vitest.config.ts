import { defineConfig } from 'vitest/config'

const needs = (suffixes: string[]) => suffixes.map((suffix) => `{packages,apps,tools}/**/*.${suffix}.test.ts`)
const heavy = ['pg', 's3', 'rest', 'interop', 'sim']
const exclude = ['**/node_modules/**', '**/dist/**']

const fuzzMinutes = Number(process.env['MOONLINK_FUZZ_MINUTES'] ?? 0)

/** A test file's name says what it needs: `*.pg.test.ts` an embedded Postgres, `*.s3.test.ts` an S3 server, and so on. */
export default defineConfig({
  test: {
    testTimeout: 120_000 + 2 * fuzzMinutes * 60_000,
    hookTimeout: 60_000,
    // What comes by itself is waited for as long as a loaded machine may take.
    expect: { poll: { timeout: 60_000, interval: 50 } },
    setupFiles: ['tools/property-seed.ts'],
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['{packages,apps,tools}/**/*.test.ts'], exclude: [...exclude, ...needs(heavy)] },
      },
      { extends: true, test: { name: 'sim', include: needs(['sim']), exclude, testTimeout: 120_000 } },
      { extends: true, test: { name: 'pg', include: needs(['pg']), exclude, testTimeout: 180_000, hookTimeout: 120_000, maxWorkers: 2 } },
      // These need servers or readers that CI installs; `pnpm test` leaves them out.
      {
        extends: true,
        test: {
          name: 'interop',
          include: needs(['s3', 'rest', 'interop']),
          exclude,
          testTimeout: 600_000,
          hookTimeout: 180_000,
          maxWorkers: 1,
        },
      },
    ],
  },
})
