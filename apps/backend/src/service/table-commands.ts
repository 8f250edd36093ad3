import { formatTableName, MoonlinkError, parseTableName } from '@moonlink/core'
import type { Mirror } from '@moonlink/table-engine'
import type { ListedTable } from '../http/schemas.ts'
import type { Acknowledger } from './acknowledger.ts'
import type { BackendParts } from './backend.ts'
import type { MirrorSet } from './mirror-set.ts'
import type { OneAtATime } from './one-at-a-time.ts'
import type { RememberedTables } from './remembered-tables.ts'
import type { StreamLoop } from './stream-loop.ts'
import { listWith, mirrorable } from './table-set.ts'

export interface TableCommandsOptions extends Pick<BackendParts, 'config' | 'engine' | 'logger' | 'source' | 'warehouse'> {
  readonly mirrors: MirrorSet
  readonly loop: StreamLoop
  readonly acknowledger: Acknowledger
  readonly remembered: RememberedTables
  /** What changes the set of tables takes its turn. */
  readonly changes: OneAtATime
}

/** Adds, pauses, resyncs, drops and lists tables while the backend runs. */
export class TableCommands {
  readonly #options: TableCommandsOptions

  constructor(options: TableCommandsOptions) {
    this.#options = options
  }

  async list(): Promise<readonly ListedTable[]> {
    const { engine, mirrors, source } = this.#options
    const statuses = new Map(engine.status().map((mirror) => [formatTableName(mirror.table), mirror]))
    const listed = await source.listTables()
    const there = listed.map(({ table, refusal, notes }): ListedTable => {
      const name = formatTableName(table)
      const mirror = statuses.get(name)
      statuses.delete(name)
      if (mirror !== undefined) return { name, notes, mirrored: true, state: mirror.state, reason: mirror.reason }
      const unopened = mirrors.unopened.get(name)
      return {
        name,
        notes,
        mirrored: unopened !== undefined,
        state: unopened === undefined ? null : 'failed',
        reason: unopened ?? refusal?.reason ?? null,
      }
    })
    const gone = [...statuses].map(([name, { state, reason }]): ListedTable => {
      return { name, notes: [], mirrored: true, state, reason: reason ?? 'the source has no such table any more' }
    })
    return [...there, ...gone]
  }

  async add(tables: readonly string[]): Promise<void> {
    const { acknowledger, changes, loop, mirrors, remembered, source } = this.#options
    await changes.run(async () => {
      const listed = await listWith(source, tables)
      const chosen = [...new Set(tables)].map((name) => mirrorable(listed, name))
      const names = chosen.map(({ table }) => formatTableName(table))
      const twice = names.find((name) => mirrors.has(name))
      if (twice !== undefined) throw new MoonlinkError('conflict', 'TABLE_EXISTS', `${twice} is mirrored already.`)
      await loop.pausedFor(() => mirrors.add(chosen))
      remembered.add(names)
      await acknowledger.remember()
      void mirrors.copyOrPause(names)
    })
  }

  /** Makes a table equal to its source whose publication is another; one that is not streaming is made so anyway. */
  async republished(table: string, reason: string): Promise<void> {
    if (this.#options.engine.mirror(table)?.currentPhase === 'streaming') await this.resync(table, reason)
  }

  /** A given publication has a table that it did not have: it is mirrored too, unless the configuration names tables. */
  async published(table: string): Promise<void> {
    const { config, logger, mirrors, remembered } = this.#options
    if (mirrors.has(table) || remembered.wasDropped(table)) return
    if (config.source.tables.length > 0) logger.info('the publication has another table; moonlink tables add mirrors it', { table })
    else await this.add([table])
  }

  async pause(table: string): Promise<void> {
    await this.#known(table).pause('PAUSED', `by request; moonlink tables resume ${table} goes on.`)
  }

  async resync(table: string, reason: string): Promise<void> {
    const { acknowledger, changes, loop, mirrors } = this.#options
    await changes.run(async () => {
      if (this.#known(table).currentPhase === 'copying')
        throw new MoonlinkError('retry', 'TABLE_COPYING', `${table} is being copied already.`, { context: { table } })
      await loop.pausedFor(() => mirrors.beginResync([table], reason))
      try {
        await acknowledger.remember()
      } finally {
        void mirrors.copyOrPause([table])
      }
    })
  }

  async drop(table: string, purge: boolean): Promise<void> {
    const { acknowledger, changes, loop, mirrors, remembered, warehouse } = this.#options
    await changes.run(async () => {
      const isMirrored = mirrors.has(table) || mirrors.unopened.has(table)
      if (!isMirrored && !(purge && remembered.wasDropped(table))) throw unknown(table)
      if (mirrors.copying().includes(table)) {
        throw new MoonlinkError('retry', 'TABLE_COPYING', `${table} is being copied; drop it when that is done.`, { context: { table } })
      }
      if (isMirrored) {
        await loop.pausedFor(() => mirrors.remove(table, !purge))
        remembered.drop(table)
        await acknowledger.remember()
      }
      const { schema, name } = parseTableName(table)
      if (purge) await warehouse.catalog.drop({ namespace: schema, name }, true)
    })
  }

  #known(table: string): Mirror {
    const mirror = this.#options.engine.mirror(table)
    if (mirror === undefined) throw unknown(table)
    return mirror
  }
}

function unknown(table: string): MoonlinkError {
  const message = `${table} is not mirrored; moonlink tables list shows what is.`
  return new MoonlinkError('invalid', 'TABLE_UNKNOWN', message, { context: { table } })
}
