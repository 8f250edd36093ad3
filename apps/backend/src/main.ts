#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8'
import { exitOf } from './cli/exit.ts'
import { checkNodeVersion } from './cli/node-version.ts'
import { createProgram } from './cli/program.ts'
import { neededNode } from './version.ts'

// Rows lie outside of the JavaScript heap, which is small. By itself V8 would collect it anew for every few megabytes of them that come and go;
// let the two together grow threefold first. Holds for every thread.
setFlagsFromString('--heap-growing-percent=200')

// A reader that has seen enough (`| head`) ends us quietly.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

try {
  checkNodeVersion(process.versions.node, neededNode)
  await createProgram(process.env, process.cwd()).parseAsync()
} catch (error) {
  const { status, line } = exitOf(error)
  if (line !== null) process.stderr.write(`${line}\n`)
  process.exitCode = status
}
