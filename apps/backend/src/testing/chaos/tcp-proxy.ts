import { connect, createServer, type Server, type Socket } from 'node:net'

/** Stands between two programs on loopback, to cut or stall their connections. */
export class TcpProxy {
  readonly port: number
  /** Called with each piece that the near side sends, before it goes on. */
  onSent: (() => void) | null = null
  private readonly server: Server
  private readonly pairs = new Set<readonly [Socket, Socket]>()
  private isStalled = false
  private targetPort: number

  private constructor(server: Server, port: number, targetPort: number) {
    this.server = server
    this.port = port
    this.targetPort = targetPort
  }

  static async start(targetPort: number): Promise<TcpProxy> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const proxy = new TcpProxy(server, (server.address() as { port: number }).port, targetPort)
    server.on('connection', (near) => proxy.join(near, connect(proxy.targetPort, '127.0.0.1')))
    return proxy
  }

  /** Leads new connections to another port, and ends those to the old one. */
  retarget(port: number): void {
    this.targetPort = port
    this.cut()
  }

  /** Ends every connection at once, as a broken network does. */
  cut(): void {
    for (const pair of this.pairs) for (const socket of pair) socket.destroy()
  }

  /** Lets nothing through, and closes nothing, until `resume`. */
  stall(): void {
    this.isStalled = true
    for (const pair of this.pairs) for (const socket of pair) socket.pause()
  }

  resume(): void {
    this.isStalled = false
    for (const pair of this.pairs) for (const socket of pair) socket.resume()
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve))
    this.cut()
    await closed
  }

  private join(near: Socket, far: Socket): void {
    const pair = [near, far] as const
    this.pairs.add(pair)
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on('data', (chunk: Buffer) => {
        if (from === near) this.onSent?.()
        if (!to.write(chunk)) from.pause()
      })
      to.on('drain', () => {
        if (!this.isStalled) from.resume()
      })
      from.on('end', () => to.end())
      from.on('error', () => to.destroy())
      from.on('close', () => {
        to.destroy()
        this.pairs.delete(pair)
      })
    }
    if (this.isStalled) for (const socket of pair) socket.pause()
  }
}
