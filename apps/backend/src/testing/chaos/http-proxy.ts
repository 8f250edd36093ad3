import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/**
 * What becomes of a request: `lost`: it is carried out, and the connection ends instead of an answer; `failed`: it is carried out, and the answer says 503;
 * `slow`: it is carried out, and the answer comes only after the client has given up; `late`: its client gets no answer, and it reaches the server with the
 * next `deliverLate`.
 */
export const answerFaults = ['lost', 'failed', 'slow', 'late'] as const
/**
 * The same, and: `cut`: it is carried out, and the answer breaks off midway; of what is never carried out, `unsent`: the connection ends; `refused`: the answer says 503;
 * `unanswered`: nothing comes.
 */
export const requestFaults = [...answerFaults, 'cut', 'unsent', 'refused', 'unanswered'] as const
export type RequestFault = (typeof requestFaults)[number]
export type AnswerFault = (typeof answerFaults)[number]

export interface ProxiedRequest {
  readonly method: string
  readonly path: string
  readonly body: string
}

/** What is answered in place of the server. */
export interface OtherAnswer {
  readonly status: number
  /** Of the body. */
  readonly type: string
  readonly body: string
}

export interface LateRequest extends ProxiedRequest {
  /** Of the answer that nobody waits for any more. */
  readonly status: number
}

/** Stands before an HTTP server, to lose its answers: what was asked for happens, and whoever asked can't know. */
export class HttpProxy {
  /** The proxy's own address. */
  readonly uri: string
  /** Chooses what becomes of a request; null: it is passed on as it is. */
  fault: (request: ProxiedRequest) => RequestFault | null = () => null
  /** Answers a request itself: asked before it is passed on (`status` is null), and again with the status of the server's answer. Null: the server answers. */
  instead: (request: ProxiedRequest, status: number | null) => OtherAnswer | null = () => null
  private readonly server: Server
  private readonly target: URL
  private readonly sockets = new Set<Socket>()
  private readonly late: (() => Promise<LateRequest>)[] = []
  private isStalled = false
  private stalled: (() => void)[] = []

  private constructor(server: Server, target: string) {
    this.server = server
    this.target = new URL(target)
    this.uri = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  }

  static async start(target: string): Promise<HttpProxy> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const proxy = new HttpProxy(server, target)
    server.on('connection', (socket: Socket) => {
      proxy.sockets.add(socket)
      socket.on('close', () => proxy.sockets.delete(socket))
    })
    server.on('request', (incoming: IncomingMessage, answer: ServerResponse) => {
      void proxy.pass(incoming, answer).catch(() => answer.destroy())
    })
    return proxy
  }

  /** Sends what was held back as `late`; gives what the server said. */
  async deliverLate(): Promise<LateRequest[]> {
    const delivered = []
    for (const deliver of this.late.splice(0)) delivered.push(await deliver())
    return delivered
  }

  /** Ends every connection at once. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy()
  }

  /** Passes nothing on until `resume`. */
  stall(): void {
    this.isStalled = true
  }

  resume(): void {
    this.isStalled = false
    for (const wake of this.stalled.splice(0)) wake()
  }

  async close(): Promise<void> {
    this.resume()
    const closed = new Promise((resolve) => this.server.close(resolve))
    this.cut()
    await closed
  }

  private async pass(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const body = Buffer.concat(await incoming.toArray())
    if (this.isStalled) await new Promise<void>((resolve) => this.stalled.push(resolve))
    const asked = { method: incoming.method!, path: incoming.url!, body: body.toString('latin1') }
    const refusal = this.instead(asked, null)
    if (refusal !== null) return this.answerBy(answer, refusal)
    const fault = this.fault(asked)
    if (fault === 'late') {
      this.late.push(async () => ({ ...asked, status: (await this.send(incoming, body)).response.statusCode! }))
      return void answer.destroy()
    }
    if (fault === 'unanswered') return
    if (fault === 'unsent') return void answer.destroy()
    if (fault === 'refused') return void answer.writeHead(503).end()
    const { content, response } = await this.send(incoming, body)
    if (fault === 'cut') return this.cutOff(answer, response, content)
    if (fault === 'lost') return void answer.destroy()
    if (fault === 'slow') return
    if (fault === 'failed') answer.writeHead(503).end()
    else {
      const other = this.instead(asked, response.statusCode!)
      if (other !== null) this.answerBy(answer, other)
      else answer.writeHead(response.statusCode!, response.rawHeaders).end(content)
    }
  }

  private answerBy(answer: ServerResponse, { body, status, type }: OtherAnswer): void {
    answer.writeHead(status, { 'content-type': type }).end(body)
  }

  private cutOff(answer: ServerResponse, response: IncomingMessage, content: Buffer): void {
    // Also where there is nothing to cut, something is missing.
    const promised = { 'content-length': String(content.length + 1) }
    const { 'content-length': _length, 'transfer-encoding': _encoding, ...headers } = response.headers
    answer.writeHead(response.statusCode!, { ...headers, ...promised })
    answer.write(content.subarray(0, content.length >> 1), () => answer.destroy())
    answer.flushHeaders()
  }

  /** As it came: signatures cover the host that the client named. */
  private send(incoming: IncomingMessage, body: Buffer): Promise<{ response: IncomingMessage; content: Buffer }> {
    return new Promise((resolve, reject) => {
      const { hostname: host, port } = this.target
      const sent = request({ host, port, method: incoming.method, path: incoming.url, headers: incoming.headers }, (response) => {
        response.toArray().then((chunks) => resolve({ response, content: Buffer.concat(chunks as Buffer[]) }), reject)
      })
      sent.on('error', reject)
      sent.end(body)
    })
  }
}
