import {
  formatTableName,
  hasVariant,
  MoonlinkError,
  type FileObject,
  type LocalFileSets,
  type PinnedFile,
  type PinOptions,
  type TextCopies,
} from '@moonlink/core'
import type { FileScan, TablePlan } from '@moonlink/union-read'
import type { FileClusters } from './file-clusters.ts'
import type { FileShape, FileShapes } from './file-shapes.ts'
import { Holds } from './holds.ts'
import { maskedFiles } from './masked-files.ts'
import type { NativeCache } from './native-cache.ts'
import { narrowed } from './needed-columns.ts'
import { quoteName } from './sql-text.ts'
import { StagedRows, type StagingPorts } from './staged-rows.ts'
import type { Statement, StatementParser } from './statement.ts'
import { viewSql, type ReadyFile, type ViewSql } from './view-sql.ts'

export interface PlanViewsParts {
  readonly files: LocalFileSets
  readonly textCopies: TextCopies | null
  readonly parser: StatementParser
  readonly shapes: FileShapes
  readonly clusters: FileClusters
  readonly cache: NativeCache
  readonly staging: StagingPorts
  readonly minMaskedRows: number
}

/** A file of a plan that has to be read. */
interface PlannedFile extends FileObject {
  readonly scan: FileScan
  readonly plan: TablePlan
}

/** A file that is pinned. What is remembered of it goes by its URI. */
interface PinnedScan {
  readonly scan: FileScan
  readonly uri: string
  readonly path: string
}

/** Of a file that is not looked into. */
const NO_SHAPE: FileShape = { key: '', columns: [], hasPlainNames: true }

/**
 * Makes views of plans, with the files they read pinned. Where those don't fit into the file cache together, what the statement needs of them is taken from one run of files after the
 * other, and the views show that.
 */
export class PlanViews {
  private readonly parts: PlanViewsParts
  private stagedCount = 0

  constructor(parts: PlanViewsParts) {
    this.parts = parts
  }

  /** The views of the plans, in their order. `pinning`: how long to wait for room that other queries hold. */
  async of(plans: readonly TablePlan[], statement: Statement, pinning: PinOptions, holds: Holds): Promise<readonly ViewSql[]> {
    const files = plans.map((plan) => toRead(plan, statement))
    const views: ViewSql[] = []
    if (this.parts.files.batches(files.flat()).length <= 1) {
      const pinned = await this.pin(files.flat(), pinning, statement, holds)
      for (const plan of plans) {
        const own = new Set(plan.files)
        const ofPlan = pinned.filter(({ scan }) => own.has(scan))
        views.push(await this.view(plan, ofPlan, statement, holds))
      }
    } else {
      for (const [index, plan] of plans.entries()) views.push(await this.stagedView(plan, files[index], statement, pinning, holds))
    }
    return views
  }

  private async stagedView(
    plan: TablePlan,
    files: readonly PlannedFile[],
    statement: Statement,
    pinning: PinOptions,
    holds: Holds,
  ): Promise<ViewSql> {
    const narrow = narrowed(plan, statement.columns)
    const { cache, files: localFiles, staging } = this.parts
    const table = `${quoteName(cache.database)}.main.staged${++this.stagedCount}`
    const staged = await StagedRows.create(staging, table, narrow.schema.fields, pinning.signal)
    holds.add(() => staged.drop())
    const { alias, condition } = await this.conditionFor(plan, statement)
    for (const batch of statement.onlyExplains ? [] : localFiles.batches(files)) {
      const own = new Holds()
      try {
        const pinned = await this.pin(batch, pinning, statement, own)
        const part = { ...narrow, files: batch.map(({ scan }) => scan), memory: [] }
        await staged.add(await this.view(part, pinned, statement, own), alias, condition)
      } finally {
        await own.release()
      }
    }
    const done = new Set(files.map(({ scan }) => scan))
    const rest = { ...narrow, files: plan.files.filter((scan) => !done.has(scan)) }
    const { text, variables, growing } = await this.view(rest, [], statement, holds)
    // No statement over it is kept: it would keep the rows.
    return { text: `${staged.text} UNION ALL ${text}`, variables, growing, fileCount: Number.POSITIVE_INFINITY, readsFiles: false }
  }

  /** What rows have to meet for the statement to look at them. */
  private async conditionFor(plan: TablePlan, statement: Statement): Promise<{ alias: string; condition: string }> {
    const names = new Set(plan.schema.fields.map((field) => field.name.toLowerCase()))
    const { rows } = statement
    if (rows === null || ![...rows.columns].every((name) => names.has(name))) return { alias: 'rows', condition: 'true' }
    return { alias: rows.alias, condition: await this.parts.parser.conditionText(statement) }
  }

  private async view(plan: TablePlan, pinned: readonly PinnedScan[], statement: Statement, holds: Holds): Promise<ViewSql> {
    const { cache, clusters, minMaskedRows, shapes } = this.parts
    const known = pinned.length === 0 ? [] : await shapes.of(pinned)
    const files = pinned.map((file, index) => ({ ...file, shape: known[index] }))
    const masked = await maskedFiles(plan, files, statement.conditions, clusters, minMaskedRows)
    const use = await cache.use(plan, masked)
    holds.add(() => use.release())
    const byScan = new Map(files.map((file) => [file.scan, file]))
    const ready = plan.files.map((scan): ReadyFile => {
      const { segment, recordCount, hasDeletes } = scan
      const { path, shape } = byScan.get(scan) ?? { path: '', shape: NO_SHAPE }
      return { segment, recordCount, hasDeletes, path, shape }
    })
    return viewSql(plan, ready, use, cache.database, statement)
  }

  private async pin(files: readonly PlannedFile[], options: PinOptions, { onlyCounts }: Statement, holds: Holds): Promise<PinnedScan[]> {
    const isText = ({ plan }: PlannedFile) => !onlyCounts && plan.schema.fields.some(({ type }) => hasVariant(type))
    const plain = files.filter((file) => !isText(file))
    const pinned = await this.parts.files.pinAll(plain, options)
    for (const { release } of pinned) holds.add(release)
    const plainPaths = new Map(plain.map((file, index) => [file, pinned[index].path]))
    return Promise.all(
      files.map(async (file) => {
        const { scan, uri } = file
        const path = plainPaths.get(file)
        if (path !== undefined) return { scan, uri, path }
        const copy = await this.pinText(file)
        holds.add(() => copy.release())
        // A copy is another file.
        return { scan, uri: copy.path, path: copy.path }
      }),
    )
  }

  private pinText({ plan: { table, schema }, uri, sizeBytes }: PlannedFile): Promise<PinnedFile> {
    const { textCopies } = this.parts
    if (textCopies) return textCopies.pin(uri, sizeBytes, schema.fields)
    const message = `${formatTableName(table)} has a column of type variant, for which SQL needs copies of its files: give the engine textCopies.`
    throw new MoonlinkError('invalid', 'SQL_NO_TEXT_COPIES', message)
  }
}

/** How many rows a file without deletes has is known. */
function toRead(plan: TablePlan, { onlyCounts }: Statement): PlannedFile[] {
  const files = onlyCounts ? plan.files.filter((scan) => scan.hasDeletes) : plan.files
  return files.map((scan) => ({ scan, plan, uri: scan.path, sizeBytes: scan.sizeBytes }))
}
