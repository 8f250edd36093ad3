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
  /** How the readers that are not ours find these tables, once nothing changes them any more; `directory` is for files that takes. */
  access(names: readonly string[], directory: string): Promise<ReaderAccess>
  /** Files of ours that no snapshot of these tables needs. Throws where one that is needed is missing. */
  unneeded(names: readonly string[]): Promise<readonly string[]>
  close(): Promise<void>
}

/** Of each table in turn. */
export interface ReaderAccess {
  /** A local copy of its metadata. */
  readonly metadata: readonly string[]
  /** Arguments of `spark_read`. */
  readonly spark: readonly (readonly string[])[]
  /** Arguments of `pyiceberg_read`. */
  readonly pyiceberg: readonly (readonly string[])[]
  /** Python that runs before `duckdb_read`. */
  readonly duckdbPrelude: string
}

export const pauseMs = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
