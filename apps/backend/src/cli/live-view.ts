import { formatCount } from '../config/units.ts'
import type { StatusReport } from '../http/schemas.ts'
import { statusLines } from './status-view.ts'
import { clip } from './text-table.ts'
import { visible } from '../visible.ts'

export interface Screen {
  readonly columns: number
  readonly rows: number
  write(text: string): void
}

/** Redraws the status in place, below whatever was printed before. */
export class LiveView {
  readonly #screen: Screen
  #drawn = 0

  constructor(screen: Screen) {
    this.#screen = screen
  }

  draw(status: StatusReport): void {
    const room = Math.max(3, this.#screen.rows - 1)
    const lines = fit(statusLines(status, this.#screen.columns), room).map((line) => clip(line, this.#screen.columns - 1))
    this.#screen.write(`${this.#rewind()}${lines.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`)
    this.#drawn = lines.length
  }

  /** Prints a line for good, above the view. */
  note(line: string): void {
    this.#screen.write(`${this.#rewind()}\u001b[J${visible(line)}\n`)
    this.#drawn = 0
  }

  #rewind(): string {
    return this.#drawn === 0 ? '' : `\u001b[${this.#drawn}A\r`
  }
}

function fit(lines: readonly string[], room: number): string[] {
  if (lines.length <= room) return [...lines]
  return [...lines.slice(0, room - 1), `… and ${lines.length - room + 1} more; moonlink status shows all`]
}

/** What changed since the last call, as a line for each table: for outputs that are no terminal. */
export class PlainView {
  readonly #last = new Map<string, string>()

  lines(status: StatusReport): string[] {
    return status.tables.flatMap((table) => {
      const commit = table.committedLsn === null ? 'nothing committed yet' : `committed ${table.committedLsn}`
      const reasons = [table.reason, table.waitingFor].filter((reason) => reason !== null)
      const state = reasons.length === 0 ? table.state : `${table.state} (${reasons.join('; ')})`
      const line = `${table.name}: ${state}, ${formatCount(table.rows, 'row')}, applied ${table.appliedLsn ?? '–'}, ${commit}, ${formatCount(table.dataFiles, 'file')}`
      // LSNs move on idle tables too; that alone is no news.
      const news = [state, table.rows, table.snapshotId, table.dataFiles].join()
      if (this.#last.get(table.name) === news) return []
      this.#last.set(table.name, news)
      return [line]
    })
  }
}
