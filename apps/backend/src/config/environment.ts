import { nearest } from './nearest.ts'
import { settingKeys } from './keys.ts'
import { originIn, setKey, type Layer, type Settings } from './layers.ts'

export type Environment = Readonly<Record<string, string | undefined>>

const prefix = 'MOONLINK_'
const withoutPrefix = (variable: string) => variable.slice(prefix.length)

/** Variables that are no settings: they name the file and, for the client commands, the backend. */
const otherVariables = new Set(['MOONLINK_CONFIG', 'MOONLINK_URL', 'MOONLINK_TOKEN'])

/**
 * Settings from `MOONLINK_*`; `DATABASE_URL` gives the source where nothing of ours does. An unknown `MOONLINK_*` is no error,
 * since platforms put variables of that form there for a service of that name: it is a warning that names the nearest known one.
 */
export function environmentLayer(environment: Environment): Layer & { readonly warnings: readonly string[] } {
  const settings: Settings = {}
  const origins = new Map<string, string>()
  const warnings: string[] = []
  if (environment['DATABASE_URL']) {
    setKey(settings, 'source.url', environment['DATABASE_URL'])
    origins.set('source.url', 'DATABASE_URL')
  }
  if (environment['OTEL_EXPORTER_OTLP_ENDPOINT']) {
    setKey(settings, 'telemetry.otlpEndpoint', environment['OTEL_EXPORTER_OTLP_ENDPOINT'])
    origins.set('telemetry.otlpEndpoint', 'OTEL_EXPORTER_OTLP_ENDPOINT')
  }
  const byVariable = new Map(settingKeys().map((setting) => [setting.variable, setting]))
  for (const [variable, value] of Object.entries(environment)) {
    if (!variable.startsWith(prefix) || value === undefined || value === '' || otherVariables.has(variable)) continue
    const setting = byVariable.get(variable)
    if (setting === undefined) {
      const near = nearest(withoutPrefix(variable), [...byVariable.keys()].map(withoutPrefix))
      warnings.push(`${variable} is no setting and is ignored${near === null ? '' : `; did you mean ${prefix}${near}?`}`)
      continue
    }
    setKey(settings, setting.key, setting.type === 'map' ? parseMap(value) : setting.type === 'list' ? value.split(',') : value)
    origins.set(setting.key, variable)
  }
  return { settings, warnings, originOf: (key) => originIn(origins, key) ?? 'the environment' }
}

/** Maps come as JSON; text that is none is left for the schema to refuse. */
function parseMap(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
