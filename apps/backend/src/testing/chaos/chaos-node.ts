import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { BackendProcess } from '../backend-process.ts'
import { isList, listedIn } from '../listed-files.ts'
import { pauseMs } from './chaos-warehouse.ts'
import { SmallDisk } from './small-disk.ts'

const STATE_DISK_MIB = 512
/** As long as a supervisor tries. */
const START_PATIENCE_MS = 120_000
const RESTART_PAUSE_MS = 500

export interface ChaosNodeOptions {
  /** Of its state; on a small disk of its own where one may be mounted. */
  readonly directory: string
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** They take over from one another. */
  readonly isOneOfSeveral: boolean
}

/** A backend and its supervisor, which starts it again where it could not start, or was deposed. */
export class ChaosNode {
  readonly disk: SmallDisk
  /** Starts of a backend that something kept from starting. */
  failedStarts = 0
  /** What it said last where it ended by itself once it was up. */
  readonly endings: string[] = []
  private readonly options: ChaosNodeOptions
  private readonly lives: BackendProcess[] = []
  private supervised: Promise<void> = Promise.resolve()
  private isDown = true

  constructor(options: ChaosNodeOptions) {
    this.options = options
    this.disk = SmallDisk.mount('state', options.directory, STATE_DISK_MIB)
  }

  get backend(): BackendProcess {
    const backend = this.lives.at(-1)
    if (backend === undefined) throw new Error('it was not started yet')
    return backend
  }

  get said(): string {
    return this.lives.map(({ said }) => said).join('---\n')
  }

  get lastLine(): string {
    return this.backend.said.trimEnd().split('\n').at(-1) ?? ''
  }

  /** What it lists of files that may be left over, as text. */
  get listedFiles(): string {
    const { directory } = this.disk
    const lists = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(isList)
    return listedIn(lists.map((path) => readFileSync(join(directory, path), 'utf8')))
  }

  /** Until it mirrors, or waits for its turn. */
  async start(): Promise<void> {
    this.isDown = false
    await this.comeUp()
  }

  async stop(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    this.isDown = true
    const status = await this.backend.stop(signal)
    await this.supervised
    return status
  }

  async freeze(momentMs: number): Promise<void> {
    const { child } = this.backend
    child.kill('SIGSTOP')
    await pauseMs(momentMs)
    child.kill('SIGCONT')
  }

  /** Whatever state it is in; leaves its log at `place`. */
  async close(place: string): Promise<void> {
    this.lives.at(-1)?.child.kill('SIGCONT')
    if (this.lives.length > 0) await this.stop('SIGKILL')
    const log = join(this.disk.directory, 'moonlink.log')
    if (existsSync(log)) copyFileSync(log, place)
    this.disk.unmount()
  }

  private async comeUp(): Promise<void> {
    const givesUpAtMs = Date.now() + START_PATIENCE_MS
    while (!this.isDown) {
      try {
        return await this.tryStart()
      } catch (error) {
        if (this.isDown) return
        if (this.backend.child.exitCode !== 1 || Date.now() > givesUpAtMs) throw error
        this.failedStarts++
        await pauseMs(RESTART_PAUSE_MS)
      }
    }
  }

  private async tryStart(): Promise<void> {
    const { args, environment, isOneOfSeveral } = this.options
    const standby = isOneOfSeveral ? ['--standby'] : []
    const backend = BackendProcess.launch([...args, '--state-dir', this.disk.directory, ...standby], environment)
    this.lives.push(backend)
    await (isOneOfSeveral ? backend.isUp() : backend.ready())
    if (isOneOfSeveral) this.supervised = this.supervise(backend)
  }

  /** Only one of several has a reason to end by itself: that it was deposed. */
  private async supervise(backend: BackendProcess): Promise<void> {
    await backend.ended()
    if (this.isDown) return
    // Its turn had come, and something kept it from starting then.
    if (!/^mirroring /m.test(backend.said)) this.failedStarts++
    else this.endings.push(this.lastLine)
    await pauseMs(RESTART_PAUSE_MS)
    await this.comeUp()
  }
}
