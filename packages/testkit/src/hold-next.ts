export interface HeldCall {
  /** Resolves once the call has come. */
  readonly reached: Promise<void>
  /** Lets it go on. */
  release(): void
}

/** The next call of a method waits before it does anything; those after it do not. */
export function holdNext<M extends string>(target: Record<M, (...request: never[]) => Promise<unknown>>, method: M): HeldCall {
  const reached = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const original = target[method]
  target[method] = async (...request) => {
    target[method] = original
    reached.resolve()
    await released.promise
    return original.apply(target, request)
  }
  return { reached: reached.promise, release: released.resolve }
}
