interface Ready<T> {
  readonly lane: AsyncGenerator<T, void, undefined>
  readonly result?: IteratorResult<T, void>
  readonly error?: unknown
}

/**
 * Yields from several generators whatever is there first. A lane is asked for its next value only after the consumer came back from its last, so
 * memory that a lane reuses stays valid that long; the other lanes work ahead by one value each.
 */
export async function* mergeLanes<T>(lanes: readonly AsyncGenerator<T, void, undefined>[]): AsyncGenerator<T, void, undefined> {
  const ready: Ready<T>[] = []
  let wake: (() => void) | null = null
  const arrive = (entry: Ready<T>) => {
    ready.push(entry)
    wake?.()
  }
  const ask = (lane: AsyncGenerator<T, void, undefined>) => {
    lane.next().then(
      (result) => arrive({ lane, result }),
      (error: unknown) => arrive({ lane, error }),
    )
  }
  for (const lane of lanes) ask(lane)
  let open = lanes.length
  try {
    while (open > 0) {
      const entry = ready.shift()
      if (!entry) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
        continue
      }
      if (!entry.result) throw entry.error
      if (entry.result.done) open--
      else {
        yield entry.result.value
        ask(entry.lane)
      }
    }
  } finally {
    // Each lane gives back what it holds, once its pending step is done.
    if (open > 0) await Promise.all(lanes.map((lane) => lane.return().catch(() => {})))
  }
}
