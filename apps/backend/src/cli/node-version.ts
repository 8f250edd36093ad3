import { MoonlinkError } from '@moonlink/core'

/** `needed` as `engines` of package.json has it: `>=22.15`. Throws `invalid`/`NODE_VERSION` where the Node that runs this is older. */
export function checkNodeVersion(running: string, needed: string): void {
  const [major, minor] = numbersOf(running)
  const [leastMajor, leastMinor] = numbersOf(needed)
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) return
  const message = `this is Node ${running}, and moonlink needs ${leastMajor}.${leastMinor} or newer; install one, or run moonlink with that of the npm package node.`
  throw new MoonlinkError('invalid', 'NODE_VERSION', message)
}

function numbersOf(version: string): [number, number] {
  const [major, minor = '0'] = version.replace(/^\D*/, '').split('.')
  return [Number(major), Number(minor)]
}
