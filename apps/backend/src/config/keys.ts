import { z } from 'zod'
import { configSchema } from './schema.ts'

/** A setting as the documentation and the environment know it. */
export interface SettingKey {
  /** `flush.intervalMs` */
  readonly key: string
  /** `MOONLINK_FLUSH_INTERVAL_MS` */
  readonly variable: string
  readonly description: string
  readonly fallback: unknown
  readonly type: string
}

interface Node {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly enum?: readonly string[]
  readonly anyOf?: readonly Node[]
  readonly properties?: Readonly<Record<string, Node>>
}

/** Every section: its name, its meaning and its settings, in the schema's order. */
export function settingSections(): readonly {
  readonly name: string
  readonly description: string
  readonly keys: readonly SettingKey[]
}[] {
  const root = z.toJSONSchema(configSchema, { io: 'input' }) as Node
  const top: SettingKey[] = []
  const sections: { name: string; description: string; keys: SettingKey[] }[] = [{ name: '', description: 'Top level.', keys: top }]
  for (const [name, node] of Object.entries(root.properties ?? {})) {
    if (node.properties === undefined) top.push(settingKey(name, node))
    else {
      const keys = Object.entries(node.properties).map(([child, childNode]) => settingKey(`${name}.${child}`, childNode))
      sections.push({ name, description: node.description ?? '', keys })
    }
  }
  return sections
}

/** Every setting by its dotted key. */
export function settingKeys(): readonly SettingKey[] {
  return settingSections().flatMap((section) => section.keys)
}

function settingKey(key: string, node: Node): SettingKey {
  const variable = `MOONLINK_${key
    .replaceAll('.', '_')
    .replace(/[A-Z]/g, (letter) => `_${letter}`)
    .toUpperCase()}`
  return { key, variable, description: node.description ?? '', fallback: node.default, type: typeText(key, node) }
}

function typeText(key: string, node: Node): string {
  if (node.enum) return node.enum.join(' \\| ')
  if (/bytes(persecond)?$/.test(key.toLowerCase())) return 'size'
  if (key.endsWith('Ms')) return 'time'
  if (node.anyOf?.some((choice) => choice.type === 'array')) return 'list'
  if (node.anyOf?.some((choice) => choice.type === 'boolean')) return 'true \\| false'
  const choices = node.anyOf?.find((choice) => choice.enum)?.enum
  if (choices) return choices.join(' \\| ')
  return node.type === 'object' ? 'map' : (node.type ?? 'text')
}
