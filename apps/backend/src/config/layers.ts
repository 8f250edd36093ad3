/** Settings as one source of configuration gives them: nested by section, unchecked. */
export type Settings = { [key: string]: unknown }

/** One source of configuration: its settings and, per dotted key, where a person finds it. */
export interface Layer {
  readonly settings: Settings
  originOf(key: string): string
}

/** The origin noted for a key, for the setting that it lies in, as an item in its list, or for one within it. */
export function originIn(origins: ReadonlyMap<string, string>, key: string): string | undefined {
  const within = [...origins.keys()].find((setting) => key === setting || key.startsWith(`${setting}.`) || setting.startsWith(`${key}.`))
  return within === undefined ? undefined : origins.get(within)
}

export function isSection(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Lays `over` upon `under`: sections merge, anything else replaces. */
export function mergeSettings(under: Settings, over: Settings): Settings {
  const merged: Settings = { ...under }
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue
    const below = own(merged, key)
    const both = isSection(value) && isSection(below) ? mergeSettings(below, value) : value
    Object.defineProperty(merged, key, { value: both, enumerable: true, writable: true, configurable: true })
  }
  return merged
}

/** Sets a dotted key, making the sections on its way. */
export function setKey(settings: Settings, key: string, value: unknown): void {
  const [head, ...rest] = key.split('.') as [string, ...string[]]
  const found = own(settings, head)
  const section = isSection(found) ? found : {}
  if (rest.length > 0) setKey(section, rest.join('.'), value)
  // By definition rather than assignment, which `__proto__` would take for something else.
  Object.defineProperty(settings, head, { value: rest.length > 0 ? section : value, enumerable: true, writable: true, configurable: true })
}

function own(settings: Settings, key: string): unknown {
  return Object.hasOwn(settings, key) ? settings[key] : undefined
}

export function getKey(settings: Settings, key: string): unknown {
  let value: unknown = settings
  for (const part of key.split('.')) value = isSection(value) || Array.isArray(value) ? own(value as Settings, part) : undefined
  return value
}
