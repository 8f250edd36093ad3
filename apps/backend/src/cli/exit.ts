import { canonicalTableName, isMoonlinkError, MoonlinkError } from '@moonlink/core'
import { CommanderError } from 'commander'
import { oneLine, toMoonlinkError } from '../http/errors.ts'
import { visible } from '../visible.ts'

/** Exit statuses of the command line. */
export const ExitStatus = { done: 0, failed: 1, usage: 2, timedOut: 124 } as const

/** The status for what a command threw, and the line to print for it; null where commander has printed already. */
export function exitOf(thrown: unknown): { readonly status: number; readonly line: string | null } {
  if (thrown instanceof CommanderError) return { status: thrown.exitCode === 0 ? ExitStatus.done : ExitStatus.usage, line: null }
  const error = toMoonlinkError(thrown)
  const status = error.code === 'TIMED_OUT' ? ExitStatus.timedOut : error.code === 'USAGE' ? ExitStatus.usage : ExitStatus.failed
  return { status, line: visible(`${error.code} ${oneLine(error.message)}`) }
}

export function usageError(message: string): MoonlinkError {
  return new MoonlinkError('invalid', 'USAGE', message)
}

/** Runs a parser of ours on a command-line value; what it refuses is wrong usage. */
export function parsedOr<T>(parse: () => T | null, message: string): T {
  let value: T | null
  try {
    value = parse()
  } catch (error) {
    if (isMoonlinkError(error, 'invalid')) throw usageError(error.message)
    throw error
  }
  if (value === null) throw usageError(message)
  return value
}

/** A table's name as the command line takes it. */
export function tableArgument(text: string): string {
  return parsedOr(() => canonicalTableName(text), '')
}

/** What commander says of wrong usage, as the one line that every failure is; `command` is what was called. */
export function usageLine(said: string, command: string): string {
  const [problem, ...rest] = oneLine(said.replace(/^error: /, '')).split(/ \((?=Did you mean )/)
  const remedy = rest.length === 0 ? '' : `; d${rest.join('').slice(1).replace(/\)$/, '')}`
  return `${visible(`USAGE ${problem.replace(/\.$/, '')}${remedy} (${command} --help tells more)`)}\n`
}
