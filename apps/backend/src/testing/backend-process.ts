import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { parseJsonLossless } from '@moonlink/core'
import type { StatusReport, TableStatusReport, VerifyLine } from '../http/schemas.ts'
import type { Failpoint } from './failpoints/failpoint.ts'

const main = join(import.meta.dirname, '../../dist/main.js')
const dyingMain = join(import.meta.dirname, '../../dist/testing/failpoints/main.js')
/** The system chooses the port, and the backend says which. */
const ANY_PORT = '127.0.0.1:0'

type Known<T, Keys extends keyof T> = T & { readonly [Key in Keys]: NonNullable<T[Key]> }
/** Of a table that was opened. */
export type TableReport = Known<TableStatusReport, 'metadataLocation'>
/** Of a backend with a change log that mirrors. */
type Report = Known<StatusReport, 'log'> & {
  readonly source: Known<StatusReport['source'], 'confirmedFlushLsn'>
  readonly tables: readonly TableReport[]
}

interface WaitOptions {
  readonly lsn?: string | null
  readonly iceberg?: boolean
  readonly timeoutMs?: number
}

/** What the backend answered instead of what it was asked for. */
export class RequestError extends Error {
  readonly code: string
  readonly context: Readonly<Record<string, unknown>>

  constructor(path: string, status: number, body: string) {
    super(`${path}: ${status} ${body}`)
    const { error } = JSON.parse(body) as { error: { code: string; context: Record<string, unknown> } }
    this.code = error.code
    this.context = error.context
  }
}

/** A backend in a process of its own, spoken to over HTTP. */
export class BackendProcess {
  readonly child: ChildProcess
  private readonly output: string[] = []

  private constructor(child: ChildProcess) {
    this.child = child
    child.stderr?.on('data', (chunk: Buffer) => this.output.push(chunk.toString()))
    child.stdout?.on('data', (chunk: Buffer) => this.output.push(chunk.toString()))
  }

  static async start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<BackendProcess> {
    const backend = BackendProcess.launch(args, env)
    await backend.ready()
    return backend
  }

  /** Starts the process, and waits for nothing. */
  static launch(args: readonly string[], env: Readonly<Record<string, string>> = {}): BackendProcess {
    return BackendProcess.spawn([main, 'start', '--http', ANY_PORT, ...args], env)
  }

  /** Starts a backend of the environment's configuration that kills itself (`testing/failpoints`), and waits for nothing. */
  static dying(failpoint: Failpoint, env: Readonly<Record<string, string>>): BackendProcess {
    return BackendProcess.spawn([dyingMain], { ...env, MOONLINK_HTTP_LISTEN: ANY_PORT, MOONLINK_FAILPOINT: JSON.stringify(failpoint) })
  }

  private static spawn(args: readonly string[], env: Readonly<Record<string, string>>): BackendProcess {
    return new BackendProcess(spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } }))
  }

  /** Where it listens, as it says itself: a standby that takes over listens anew. Throws before it does. */
  get url(): string {
    const said = this.said.match(/(?<=API is at )http:\/\/\S+(?=\n)/g)?.at(-1)
    if (said === undefined) throw new Error(`the backend does not listen yet: ${this.said}`)
    return said
  }

  async ready(): Promise<void> {
    await this.until(async () => (await fetch(`${this.url}/ready`)).ok, 120_000)
  }

  async isReady(): Promise<boolean> {
    try {
      return (await fetch(`${this.url}/ready`)).ok
    } catch {
      return false
    }
  }

  async isStandby(): Promise<void> {
    await this.until(() => this.hasStandbyRole(), 120_000)
  }

  /** It mirrors, or waits for its turn as a standby. */
  async isUp(): Promise<void> {
    await this.until(async () => (await this.hasStandbyRole()) || (await this.isReady()), 120_000)
  }

  /** `null` where it does not answer, or is neither. */
  async role(): Promise<'mirrors' | 'standby' | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return null
    if (await this.isReady()) return 'mirrors'
    return (await this.hasStandbyRole().catch(() => false)) ? 'standby' : null
  }

  /** Resolves when the process is over, for whatever reason. */
  async ended(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit')
  }

  /** What it has written to its output. */
  get said(): string {
    return this.output.join('')
  }

  /** Integers that a number can't hold come as bigints. */
  async query(sql: string, atLsn: string | null = null): Promise<unknown[][]> {
    return (await this.read(sql, atLsn)).rows
  }

  /** Like `query`, with the columns' names and the LSN. */
  async read(sql: string, atLsn: string | null = null): Promise<{ lsn: string | null; names: string[]; rows: unknown[][] }> {
    const answer = (await this.post('/query', { sql, atLsn, timeoutMs: 60_000 })) as {
      lsn: string | null
      columns: { name: string }[]
      rows: unknown[][]
      error?: unknown
    }
    if (answer.error !== undefined) throw new Error(`/query: ${JSON.stringify(answer.error)}`)
    return { lsn: answer.lsn, names: answer.columns.map(({ name }) => name), rows: answer.rows }
  }

  async wait({ lsn = null, iceberg = false, timeoutMs = 120_000 }: WaitOptions = {}): Promise<string> {
    return ((await this.post('/wait', { lsn, iceberg, timeoutMs })) as { lsn: string }).lsn
  }

  async verify(tables: readonly string[]): Promise<readonly VerifyLine[]> {
    const response = await fetch(`${this.url}/verify`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ tables }),
    })
    const text = await response.text()
    if (!response.ok) throw new RequestError('/verify', response.status, text)
    const lines = text.split('\n').filter((line) => line !== '')
    return lines.map((line) => JSON.parse(line) as VerifyLine)
  }

  async status(): Promise<Report> {
    return (await (await fetch(`${this.url}/status`)).json()) as Report
  }

  async tables(): Promise<readonly TableReport[]> {
    return (await this.status()).tables
  }

  async table(name: string): Promise<TableReport> {
    const found = (await this.tables()).find((table) => table.name === name)
    if (!found) throw new Error(`no table ${name} in the status`)
    return found
  }

  async post(path: string, body: unknown): Promise<unknown> {
    const response = await fetch(`${this.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const text = await response.text()
    if (!response.ok) throw new RequestError(path, response.status, text)
    return parseJsonLossless(text)
  }

  /** SIGTERM (graceful) or SIGKILL; resolves with the exit status. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode
    const exited = new Promise<number | null>((resolve) => this.child.once('exit', resolve))
    this.child.kill(signal)
    return exited
  }

  private async hasStandbyRole(): Promise<boolean> {
    return ((await (await fetch(`${this.url}/health`)).json()) as { role: string }).role === 'standby'
  }

  private async until(check: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs
    while (Date.now() < deadline) {
      if (this.child.exitCode !== null) throw new Error(`the backend ended with status ${this.child.exitCode}: ${this.output.join('')}`)
      if (await check().catch(() => false)) return
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    await this.stop('SIGKILL')
    throw new Error(`the backend was not ready after ${timeoutMs} ms: ${this.output.join('')}`)
  }
}
