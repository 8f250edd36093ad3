import type { PortName, WrapPort } from '../../service/wrap-port.ts'

/** A call at which state leaves memory. */
export const points = [
  'log create',
  'log write',
  'log sync',
  'log remove',
  'state write',
  'data file put',
  'vector put',
  'manifest put',
  'metadata put',
  'catalog commit',
  'acknowledge',
] as const
/** Those of a purge alone. */
export type Point = (typeof points)[number] | 'catalog drop' | 'file remove'

/** Where a process dies: at the next such call once it is armed, before the call has its effect or after. */
export interface Failpoint {
  readonly point: Point
  readonly side: 'before' | 'after'
  /** Armed from the start on; so many calls go well before the one that it dies at. */
  readonly spared?: number
}

const byMethod: Readonly<Record<string, Point>> = {
  'logDisk create': 'log create',
  'logDisk remove': 'log remove',
  'logFile write': 'log write',
  'logFile sync': 'log sync',
  'state write': 'state write',
  'catalog commit': 'catalog commit',
  'catalog drop': 'catalog drop',
  'store delete': 'file remove',
  'stream acknowledge': 'acknowledge',
}
const byEnding: readonly (readonly [RegExp, Point])[] = [
  [/\.parquet$/, 'data file put'],
  [/\.puffin$/, 'vector put'],
  [/\.avro$/, 'manifest put'],
  [/\.metadata\.json$/, 'metadata put'],
]
/** What these return is a port too. */
const inner: Readonly<Record<string, string>> = { 'logDisk create': 'logFile', 'source open': 'stream' }

/** Wraps ports so that the process kills itself at a failpoint; `isArmed` is asked at each call. */
export function dyingAt({ point, side, spared }: Failpoint, isArmed: () => boolean): WrapPort {
  let left = spared ?? 0
  const isDue = () => (spared !== undefined || isArmed()) && left-- <= 0
  const wrap = <Port extends object>(name: PortName | 'logFile' | 'stream', port: Port): Port =>
    new Proxy(port, {
      get: (target, key) => {
        const method: unknown = Reflect.get(target, key, target)
        if (typeof method !== 'function') return method
        const call = (...args: unknown[]) => Reflect.apply(method, target, args) as unknown
        const id = `${name} ${String(key)}`
        if (inner[id] !== undefined)
          return async (...args: unknown[]) => wrap(inner[id] as 'stream', (await atPoint(id, args, call)) as object)
        return (...args: unknown[]) => atPoint(id, args, call)
      },
    })
  const atPoint = (id: string, args: unknown[], call: (...args: unknown[]) => unknown): unknown => {
    const isHere = pointOf(id, args) === point
    if (isHere && side === 'before' && isDue()) die()
    const result = call(...args)
    if (!isHere || side === 'before') return result
    if (!(result instanceof Promise)) return isDue() ? die() : result
    return result.then((value: unknown) => (isDue() ? die() : value))
  }
  return wrap
}

function pointOf(id: string, [first]: unknown[]): Point | null {
  if (byMethod[id] !== undefined) return byMethod[id]
  if (!id.startsWith('store put') || typeof first !== 'string') return null
  return byEnding.find(([ending]) => ending.test(first))?.[1] ?? null
}

/** At once: nothing that is due in this process happens any more. */
function die(): never {
  process.kill(process.pid, 'SIGKILL')
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}
