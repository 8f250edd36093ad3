import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { formatLsn, type Lsn } from '@moonlink/core'

const PATIENCE_MS = 120_000

/** A backend as a process of its own, as users run it. */
export class MirrorProcess {
  readonly url: string
  private readonly child: ChildProcess

  private constructor(child: ChildProcess, url: string) {
    this.child = child
    this.url = url
  }

  static async start(options: {
    source: string
    stateDir: string
    tables: readonly string[]
    env?: Readonly<Record<string, string>>
    profileDir?: string | null
  }): Promise<MirrorProcess> {
    const port = await freePort()
    const main = fileURLToPath(new URL('./main.js', import.meta.resolve('@moonlink/backend')))
    const tables = options.tables.flatMap((table) => ['--table', table])
    const profiling = options.profileDir ? ['--cpu-prof', '--cpu-prof-dir', options.profileDir] : []
    const child = spawn(
      process.execPath,
      [...profiling, main, 'start', '--source', options.source, '--state-dir', options.stateDir, '--http', `127.0.0.1:${port}`, ...tables],
      { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...options.env } },
    )
    const mirror = new MirrorProcess(child, `http://127.0.0.1:${port}`)
    await mirror.until(async () => (await fetch(`${mirror.url}/health`)).ok)
    return mirror
  }

  /** Asks seldom enough that the asking takes nothing away from what is measured. */
  async ready(): Promise<void> {
    await this.until(async () => (await fetch(`${this.url}/ready`)).ok, 50)
  }

  async query(sql: string): Promise<unknown[][]> {
    const answer = (await this.post('/query', { sql })) as { rows: unknown[][] }
    return answer.rows
  }

  async wait(lsn: Lsn, iceberg = false): Promise<void> {
    await this.post('/wait', { lsn: formatLsn(lsn), iceberg, timeoutMs: 600_000 })
  }

  /** The same, however long it takes: a request is not kept open for more than a minute. */
  async waitPatiently(lsn: Lsn, iceberg = false): Promise<void> {
    for (;;) {
      try {
        await this.post('/wait', { lsn: formatLsn(lsn), iceberg, timeoutMs: 60_000 })
        return
      } catch (error) {
        if (!String(error).includes('TIMED_OUT')) throw error
      }
    }
  }

  /** What a metric without labels has now; null where it is unknown. */
  async metric(name: string): Promise<number | null> {
    const text = await (await fetch(`${this.url}/metrics`)).text()
    const found = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)
    return found && Number(found[1])
  }

  /** From here on, `usage` gives the peak of what comes (Linux). */
  forgetPeak(): void {
    writeFileSync(`/proc/${this.child.pid}/clear_refs`, '5')
  }

  async flush(): Promise<void> {
    await this.post('/flush', {})
  }

  async status(): Promise<{ tables: { name: string; state: string; rows: number | string; reason: string | null }[] }> {
    return (await (await fetch(`${this.url}/status`)).json()) as never
  }

  /** User and system CPU seconds so far, and the peak resident size (Linux; null elsewhere). */
  usage(): { cpuSeconds: number; peakRssMiB: number } | null {
    try {
      const stat = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8').split(') ')[1].split(' ')
      const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8'))![1]
      return { cpuSeconds: (Number(stat[11]) + Number(stat[12])) / 100, peakRssMiB: Number(peak) / 1024 }
    } catch {
      return null
    }
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null) return
    const exited = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.kill('SIGTERM')
    await exited
  }

  private async post(path: string, body: unknown): Promise<unknown> {
    const response = await fetch(`${this.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return response.json()
  }

  private async until(check: () => Promise<boolean>, everyMs = 20): Promise<void> {
    for (let attempt = 0; attempt * everyMs < PATIENCE_MS; attempt++) {
      if (this.child.exitCode !== null) throw new Error(`the backend ended with status ${this.child.exitCode}`)
      if (await check().catch(() => false)) return
      await new Promise((resolve) => setTimeout(resolve, everyMs))
    }
    throw new Error('the backend did not become ready')
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
