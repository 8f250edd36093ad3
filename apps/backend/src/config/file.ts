import { existsSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { MoonlinkError } from '@moonlink/core'
import { getKey, isSection, setKey, type Layer, type Settings } from './layers.ts'

const defaultName = 'moonlink.yaml'

/** Settings of a YAML file: the one named, else `moonlink.yaml` in the working directory where there is one. Its relative paths are its own. */
export function fileLayer(path: string | undefined, workingDirectory: string): Layer | null {
  const file = resolve(workingDirectory, path ?? defaultName)
  if (path === undefined && !existsSync(file)) return null
  const settings = readSettings(file)
  for (const key of ['warehouse', 'stateDir', 'changeLog.location']) {
    const value = getKey(settings, key)
    if (typeof value === 'string' && !isUri(value)) setKey(settings, key, resolve(dirname(file), value))
  }
  return { settings, originOf: () => file }
}

export function isUri(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text)
}

function readSettings(file: string): Settings {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message
    throw new MoonlinkError('invalid', 'CONFIG_UNREADABLE', `can't read the configuration ${file}: ${reason}.`, { cause: error })
  }
  try {
    const document = parseDocument(text)
    // What the library warns of (a tag that it does not know, say) is not what its author meant either.
    const problem = document.errors[0] ?? document.warnings[0]
    if (problem !== undefined) throw problem
    const settings: unknown = document.toJS()
    if (settings === null || settings === undefined) return {}
    if (isSection(settings)) return settings
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0].replace(/:$/, '')
    throw new MoonlinkError('invalid', 'CONFIG_UNREADABLE', `${file} is no YAML: ${reason}.`, { cause: error })
  }
  throw new MoonlinkError('invalid', 'CONFIG_UNREADABLE', `${file} must hold settings as "key: value" lines.`)
}
