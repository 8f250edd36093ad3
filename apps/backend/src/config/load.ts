import { join, resolve } from 'node:path'
import { pathToFileUri } from '@moonlink/object-store'
import type { z } from 'zod'
import { MoonlinkError } from '@moonlink/core'
import { contradictionIn } from './contradictions.ts'
import { environmentLayer, type Environment } from './environment.ts'
import { fileLayer, isUri } from './file.ts'
import { settingKeys } from './keys.ts'
import { getKey, mergeSettings, originIn, type Layer, type Settings } from './layers.ts'
import { nearestKey } from './nearest.ts'
import { requirement } from './requirement.ts'
import { configSchema, type Config, type ParsedConfig } from './schema.ts'

/** Where settings come from. */
export interface ConfigInputs {
  /** Path of a YAML file; without one, `moonlink.yaml` in the working directory where there is one. */
  readonly file?: string | undefined
  readonly environment: Environment
  /** Settings given as flags, nested as in the file. */
  readonly flags: Settings
  /** By dotted key, the flag that gave it, for messages; default: "a flag". */
  readonly flagNames?: ReadonlyMap<string, string>
  readonly workingDirectory: string
}

/** A configuration that was checked, and what a person should be told of it, a line each. */
export interface LoadedConfig {
  readonly config: Config
  readonly warnings: readonly string[]
}

/**
 * The configuration from defaults, then the file, the environment and the flags, each over the one before. Throws
 * `invalid`/`CONFIG_INVALID`, in one line that names every wrong key, where it came from and what is allowed.
 */
export function loadConfig(inputs: ConfigInputs): LoadedConfig {
  const environment = environmentLayer(inputs.environment)
  const flags: Layer = { settings: inputs.flags, originOf: (key) => originIn(inputs.flagNames ?? new Map(), key) ?? 'a flag' }
  const layers = [fileLayer(inputs.file ?? inputs.environment['MOONLINK_CONFIG'], inputs.workingDirectory), environment, flags].filter(
    (layer) => layer !== null,
  )
  const fileUrl = layers.length === 3 ? getKey(layers[0].settings, 'source.url') : undefined
  const merged = layers.map((layer) => layer.settings).reduce(mergeSettings, {})
  // DATABASE_URL is everybody's variable: a source that the file names is meant for us, so it wins over that one.
  if (fileUrl !== undefined && environment.originOf('source.url') === 'DATABASE_URL' && getKey(inputs.flags, 'source.url') === undefined) {
    ;(merged['source'] as Settings)['url'] = fileUrl
  }
  const parsed = configSchema.safeParse(merged)
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => explainIssue(issue, merged, layers))
    throw new MoonlinkError('invalid', 'CONFIG_INVALID', problems.join('; ').replaceAll(/\s+/g, ' '), {
      context: { keys: parsed.error.issues.map((issue) => issue.path.join('.')) },
    })
  }
  return { config: complete(parsed.data, inputs), warnings: environment.warnings }
}

function complete(parsed: ParsedConfig, inputs: ConfigInputs): Config {
  const contradiction = contradictionIn(parsed)
  if (contradiction !== null) throw new MoonlinkError('invalid', 'CONFIG_INVALID', contradiction)
  const stateDir = resolve(inputs.workingDirectory, parsed.stateDir)
  const chosen = parsed.warehouse ?? (parsed.catalog.kind === 'rest' ? null : join(stateDir, 'warehouse'))
  const warehouse = chosen === null ? null : storeUri('warehouse', chosen, inputs.workingDirectory)
  const changeLog = { ...parsed.changeLog, location: changeLogLocation(parsed.changeLog, warehouse, stateDir, inputs.workingDirectory) }
  return { ...parsed, stateDir, warehouse, changeLog }
}

function changeLogLocation(
  { enabled, kind, location }: ParsedConfig['changeLog'],
  warehouse: string | null,
  stateDir: string,
  workingDirectory: string,
): string {
  if (kind === 'local' || !enabled) return resolve(workingDirectory, location ?? join(stateDir, 'changelog'))
  if (location !== undefined) return storeUri('changeLog.location', location, workingDirectory)
  if (warehouse !== null) return `${warehouse}/.moonlink/changelog`
  const message = 'changeLog.location: is needed where the catalog chooses the warehouse; give a URI such as s3://bucket/prefix.'
  throw new MoonlinkError('invalid', 'CONFIG_INVALID', message)
}

function storeUri(key: string, text: string, workingDirectory: string): string {
  if (!isUri(text)) return pathToFileUri(resolve(workingDirectory, text)).replace(/\/+$/, '')
  if (/^s3:\/*$/.test(text))
    throw new MoonlinkError('invalid', 'CONFIG_INVALID', `${key}: "${text}" names no bucket; write s3://bucket/prefix.`)
  if (/^(s3|file):\/\//.test(text)) return text.replace(/\/+$/, '')
  throw new MoonlinkError('invalid', 'CONFIG_INVALID', `${key}: "${text}" must be a directory or start with s3://.`)
}

type Issue = z.core.$ZodIssue

function explainIssue(issue: Issue, merged: Settings, layers: readonly Layer[]): string {
  const key = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((unknown) => explainUnknown(key === '' ? unknown : `${key}.${unknown}`, layers)).join('; ')
  }
  const origin = originOf(key, layers)
  const value = getKey(merged, key)
  const shown = value === undefined ? 'it' : isSecret(key) ? 'its value' : shorten(JSON.stringify(value))
  return `${key}${origin === null ? '' : ` (${origin})`}: ${shown} ${requirement(issue)}`
}

function explainUnknown(key: string, layers: readonly Layer[]): string {
  const known = settingKeys().map((setting) => setting.key)
  const sections = new Set(known.flatMap((setting) => (setting.includes('.') ? [setting.split('.')[0]] : [])))
  const near = nearestKey(key, [...known, ...sections])
  const origin = originOf(key, layers)
  return `${key}${origin === null ? '' : ` (${origin})`}: there is no such setting${near === null ? '' : `; did you mean ${near}?`}`
}

function shorten(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}

function originOf(key: string, layers: readonly Layer[]): string | null {
  return layers.findLast((layer) => getKey(layer.settings, key) !== undefined)?.originOf(key) ?? null
}

/** Whether a setting may hold what nobody else may see, or has one below it that may. */
function isSecret(key: string): boolean {
  const isOne = (name: string) => /token|secret|password|ur[il]$|endpoint$|headers|accessKey/i.test(name)
  return isOne(key) || settingKeys().some((setting) => setting.key.startsWith(`${key}.`) && isOne(setting.key))
}
