import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configurationDocument } from '../src/config/document.ts'

/** Writes docs/CONFIGURATION.md: `pnpm exec node apps/backend/tools/write-configuration.ts`. */
writeFileSync(join(import.meta.dirname, '../../../docs/CONFIGURATION.md'), configurationDocument())
