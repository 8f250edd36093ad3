/** Reads things in their order, up to `atOnce` of them beside one another, so that it is not waited for each by itself. What follows one that failed is left out. */
export async function* readAhead<T>(
  items: readonly T[],
  atOnce: number,
  read: (item: T) => Promise<Buffer>,
): AsyncGenerator<{ readonly item: T; readonly bytes: Buffer }, void, undefined> {
  const ahead: Promise<Buffer>[] = []
  let next = 0
  for (const item of items) {
    while (next < items.length && ahead.length < atOnce) {
      const reading = read(items[next++])
      // It is thrown in its turn, if that comes.
      reading.catch(() => undefined)
      ahead.push(reading)
    }
    yield { item, bytes: await ahead.shift()! }
  }
}
