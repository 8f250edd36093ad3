/** Settings as one source of configuration gives them: nested by section, unchecked. */
export type Settings = { [key: string]: unknown }

/** One source of configuration: its settings and, per dotted key, where a person finds it. */
export interface Layer {
  readonly settings: Settings
  originOf(key: string): string
}

export function isSection(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Lays `over` upon `under`: sections merge, anything else replaces. */
export function mergeSettings(under: Settings, over: Settings): Settings {
  const merged: Settings = { ...under }
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue
    const below = merged[key]
    merged[key] = isSection(value) && isSection(below) ? mergeSettings(below, value) : value
  }
  return merged
}

/** Sets a dotted key, making the sections on its way. */
export function setKey(settings: Settings, key: string, value: unknown): void {
  const [head, ...rest] = key.split('.') as [string, ...string[]]
  if (rest.length === 0) settings[head] = value
  else {
    const section = isSection(settings[head]) ? settings[head] : {}
    settings[head] = section
    setKey(section, rest.join('.'), value)
  }
}

export function getKey(settings: Settings, key: string): unknown {
  let value: unknown = settings
  for (const part of key.split('.')) value = isSection(value) || Array.isArray(value) ? (value as Settings)[part] : undefined
  return value
}
