/** Something that befalls a part of a chaos run, and passes. */
export interface Fault {
  readonly name: string
  /** `momentMs`: how long it lasts. */
  inflict(momentMs: number): Promise<void>
}

/** Where a chaos run's tables live. */
export interface ChaosWarehouse {
  /** Flags and environment of a backend that uses it. */
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly faults: readonly Fault[]
  close(): Promise<void>
}

export const pauseMs = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
