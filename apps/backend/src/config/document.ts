import { settingSections, type SettingKey } from './keys.ts'

/** The configuration's documentation in Markdown, made of the schema that checks it. */
export function configurationDocument(): string {
  const sections = settingSections().map(({ name, description, keys }) => {
    const title = name === '' ? '## Top level' : `## ${name}`
    return `${title}\n\n${name === '' ? '' : `${description}\n\n`}${table(keys)}\n`
  })
  return `${introduction}\n${sections.join('\n')}`
}

const introduction = `# Configuration

<!-- Made from apps/backend/src/config/schema.ts by \`pnpm exec node apps/backend/tools/write-configuration.ts\`; do not edit. -->

Settings come from defaults, then a YAML file (\`--config FILE\`, or \`moonlink.yaml\` in the working directory), then the environment, then
flags, each over the one before. \`--set key=value\` sets any of them. Unknown keys are refused.

A source named by file, flag or \`MOONLINK_SOURCE_URL\` wins over \`DATABASE_URL\`; what its URL leaves out comes from \`PGHOST\`, \`PGPORT\`,
\`PGUSER\`, \`PGPASSWORD\`, \`PGDATABASE\` and \`PGSSLMODE\`. For S3 the usual \`AWS_*\` variables work. \`MOONLINK_CONFIG\` names the file;
\`MOONLINK_URL\` and \`MOONLINK_TOKEN\` name the backend for the client commands and give its token.

Sizes are bytes (\`1048576\`) or have a unit (\`64MiB\`, \`1GB\`). Times have a unit (\`5s\`, \`10m\`, \`1h\`), or are milliseconds (\`5000\`), as the settings' names say; \`--timeout\` of \`moonlink wait\` and \`query\` needs one. Lists in
the environment are separated by commas; maps there are JSON.
`

function table(keys: readonly SettingKey[]): string {
  const rows = keys.map((setting) => [
    `\`${setting.key}\``,
    `\`${setting.variable}\``,
    setting.type,
    fallbackText(setting.fallback),
    setting.description,
  ])
  const cells = [['setting', 'environment', 'type', 'default', 'meaning'], ...rows]
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)))
  const line = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`
  return [line(cells[0]), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...cells.slice(1).map(line)].join('\n')
}

function fallbackText(fallback: unknown): string {
  if (fallback === undefined) return ''
  const text = typeof fallback === 'string' ? fallback : JSON.stringify(fallback)
  return text === '[]' || text === '{}' ? 'none' : `\`${text}\``
}
