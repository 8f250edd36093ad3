import { expect, test } from 'vitest'
import { neededNode } from '../version.ts'
import { checkNodeVersion } from './node-version.ts'

test('a Node that is too old is named, with the one that is needed', () => {
  for (const running of ['22.15.0', '22.20.1', '24.0.0']) expect(() => checkNodeVersion(running, '>=22.15')).not.toThrow()
  for (const running of ['20.20.2', '22.14.9', '18.0.0'])
    expect(() => checkNodeVersion(running, '>=22.15')).toThrow(`this is Node ${running}, and moonlink needs 22.15 or newer`)
  expect(() => checkNodeVersion('25.0.0', '>=24')).not.toThrow()
  expect(() => checkNodeVersion(process.versions.node, neededNode)).not.toThrow()
})
