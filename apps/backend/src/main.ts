#!/usr/bin/env node
import { exitOf } from './cli/exit.ts'
import { createProgram } from './cli/program.ts'

// A reader that has seen enough (`| head`) ends us quietly.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

try {
  await createProgram(process.env, process.cwd()).parseAsync()
} catch (error) {
  const { status, line } = exitOf(error)
  if (line !== null) process.stderr.write(`${line}\n`)
  process.exitCode = status
}
