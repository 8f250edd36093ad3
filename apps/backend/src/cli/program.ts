import { Command } from 'commander'
import type { Environment } from '../config/environment.ts'
import { loadConfig } from '../config/load.ts'
import { setKey, type Settings } from '../config/layers.ts'
import type { Config } from '../config/schema.ts'
import { BackendClient, defaultUrl } from './client.ts'
import * as commands from './commands.ts'
import { packageVersion } from '../version.ts'
import { hostedServices, roleSqlOf, type RoleSqlFlags } from './role-sql.ts'
import { verifyTables } from './verify.ts'
import { tableArgument, usageError, usageLine } from './exit.ts'
import type { SourceFlags, StartFlags } from './start.ts'
import { visible } from '../visible.ts'

const collect = (value: string, before: readonly string[] = []) => [...before, value]

interface ClientOptions {
  readonly url?: string
}

/** The command line. `start` and `uninstall` are loaded when they are run, so that the client commands stay quick. */
export function createProgram(environment: Environment, workingDirectory: string): Command {
  const program = new Command('moonlink').description('Mirrors Postgres tables into Apache Iceberg, moments behind.')
  program.version(packageVersion, '--version').exitOverride().enablePositionalOptions()
  const surroundings = new Surroundings(environment, workingDirectory)
  addStart(program, surroundings)
  addReading(program, surroundings)
  addTables(program.command('tables').description('add, drop, pause, resume, resync or list tables').exitOverride(), surroundings)
  addRoleSql(program)
  addDdl(
    program
      .command('ddl')
      .description('have the source tell where schemas change, by event triggers; without them that is inferred')
      .exitOverride(),
    surroundings,
  )
  addEnding(program, surroundings)
  sayUsageInOneLine(program, 'moonlink')
  return program
}

/** What a command finds where it is run. */
class Surroundings {
  readonly #environment: Environment
  readonly #workingDirectory: string

  constructor(environment: Environment, workingDirectory: string) {
    this.#environment = environment
    this.#workingDirectory = workingDirectory
  }

  /** The backend that is meant. */
  backend(options: ClientOptions): BackendClient {
    const named = options.url ?? this.#environment['MOONLINK_URL']
    const { listen, token } = this.#configuredHttp()
    const url =
      named ??
      (listen === undefined || listen.endsWith(':0') ? defaultUrl : `http://${listen.replace(/^(0\.0\.0\.0|\[::\])/, '127.0.0.1')}`)
    return new BackendClient(url, this.#environment['MOONLINK_TOKEN'] ?? token)
  }

  /** The configuration, with these flags over it. */
  async config(flags: StartFlags): Promise<Config> {
    const given = { file: flags.config, environment: this.#environment, ...settingsOf(flags), workingDirectory: this.#workingDirectory }
    const loaded = loadConfig(given)
    for (const warning of loaded.warnings) process.stderr.write(`${visible(`warning: ${warning}`)}\n`)
    return loaded.config
  }

  /** Where the configuration here says that a backend listens. One that can't be read is `start`'s to complain of. */
  #configuredHttp(): { readonly listen?: string; readonly token?: string | undefined } {
    try {
      return loadConfig({ environment: this.#environment, flags: {}, workingDirectory: this.#workingDirectory }).config.http
    } catch {
      return {}
    }
  }
}

function addStart(program: Command, surroundings: Surroundings): void {
  const start = withSettings(program.command('start').description('mirror until stopped'))
  start.option('--standby', 'where another backend runs this mirror, wait and take over when it ends').action(async (flags: StartFlags) => {
    const { start: run } = await import('./start.ts')
    await run(await surroundings.config(flags))
  })
}

function addReading(program: Command, surroundings: Surroundings): void {
  client(program, 'status', 'show the source and the tables')
    .option('--json', 'as JSON')
    .action(async (options) => commands.status(surroundings.backend(options), options))
  client(program, 'query <sql>', 'run SQL over the tables (schema.table) as of one LSN')
    .option('--at-lsn <lsn>', 'read as of this LSN')
    .option('--format <format>', 'table, json or csv', 'table')
    .option('--timeout <time>', 'longest wait for the LSN, with its unit (500ms, 5s, 2m)', '60s')
    .action(async (sql, options) => commands.query(surroundings.backend(options), sql, options))
  client(program, 'wait', 'return when reads cover an LSN; without --lsn, all that is committed in the source now')
    .option('--lsn <lsn>', 'what to wait for')
    .option('--iceberg', 'wait for an Iceberg commit of every table')
    .option('--timeout <time>', 'longest wait, with its unit (500ms, 5s, 2m)', '60s')
    .action(async (options) => commands.wait(surroundings.backend(options), options))
  client(program, 'flush [table]', 'commit to Iceberg what is applied').action(async (table?: string, options: ClientOptions = {}) =>
    commands.flush(surroundings.backend(options), table === undefined ? undefined : tableArgument(table)),
  )
  client(program, 'verify [table...]', 'compare tables with the source, row for row, at one exact LSN; default: all')
    .option('--json', 'a JSON line a table')
    .option('--repair', 'make tables that differ equal again')
    .action(async (names: string[], options) => verifyTables(surroundings.backend(options), names.map(tableArgument), options))
}

function addTables(tables: Command, surroundings: Surroundings): void {
  client(tables, 'add <table...>', 'begin to mirror tables').action(async (names: string[], options) =>
    commands.addTables(surroundings.backend(options), names.map(tableArgument)),
  )
  client(tables, 'drop <table>', 'end the mirroring of a table; its Iceberg table stays')
    .option('--purge', 'remove the Iceberg table and its files too')
    .action(async (table, options) => commands.dropTable(surroundings.backend(options), tableArgument(table), options))
  const changes = {
    pause: 'take no more changes of a table; the others go on',
    resume: 'go on with a paused or failed table: what it missed is found by comparing',
    resync: 'compare a table with the source and write what differs',
  }
  for (const change of ['pause', 'resume', 'resync'] as const) {
    client(tables, `${change} <table>`, changes[change]).action(async (table, options) =>
      commands.changeTable(surroundings.backend(options), tableArgument(table), change),
    )
  }
  client(tables, 'list', 'show every table of the source, mirrored or why not')
    .option('--json', 'as JSON')
    .action(async (options) => commands.listTables(surroundings.backend(options), options))
}

function addRoleSql(program: Command): void {
  program
    .command('role-sql')
    .description('print the SQL that makes a role with just what a mirror needs, for an administrator to run')
    .requiredOption('--table <schema.name>', 'table to be mirrored; repeatable', collect)
    .option('--database <name>', 'database of the tables', 'postgres')
    .option('--role <name>', 'role to make', 'moonlink')
    .option('--publication <name>', 'publication to make', 'moonlink')
    .option('--service <name>', `who runs the server: ${hostedServices.join(', ')}`, 'postgres')
    .action(async (options: RoleSqlFlags) => commands.print(roleSqlOf(options)))
}

function addDdl(ddl: Command, surroundings: Surroundings): void {
  const partitions = ['--partitions', 'also a trigger on each partition, which tells where one is truncated by itself'] as const
  withSource(ddl.command('install').description('install the event triggers (as a superuser, once a database)'))
    .option(...partitions)
    .action(async (flags: SourceFlags & { partitions?: boolean }) => {
      const { changeDdl } = await import('./ddl.ts')
      await changeDdl(await surroundings.config(flags), 'install', flags.partitions)
    })
  withSource(ddl.command('uninstall').description('uninstall the event triggers, and those of partitions')).action(
    async (flags: SourceFlags) => {
      const { changeDdl } = await import('./ddl.ts')
      await changeDdl(await surroundings.config(flags), 'uninstall')
    },
  )
  ddl
    .command('sql')
    .description('print the SQL, for an administrator to run')
    .option(...partitions)
    .option('--uninstall', 'the SQL that removes them')
    .action(async (options: { partitions?: boolean; uninstall?: boolean }) => commands.print((await import('./ddl.ts')).ddlSql(options)))
}

function addEnding(program: Command, surroundings: Surroundings): void {
  client(program, 'stop', 'flush, commit and stop the backend').action(async (options) => commands.stop(surroundings.backend(options)))
  withSource(
    client(
      program,
      'uninstall',
      'remove slot and publication from the source; of a running backend, or of --source or --config without one',
    ),
  ).action(async (flags: SourceFlags & ClientOptions) => {
    if (flags.source === undefined && flags.config === undefined) return commands.uninstall(surroundings.backend(flags))
    const { uninstallWithoutBackend } = await import('./start.ts')
    return uninstallWithoutBackend(await surroundings.config(flags))
  })
}

function client(parent: Command, usage: string, description: string): Command {
  return parent.command(usage).description(description).option('--url <url>', `the backend (MOONLINK_URL; ${defaultUrl})`)
}

function sayUsageInOneLine(command: Command, path: string): void {
  command.configureOutput({ outputError: (said, write) => write(usageLine(said, path)) })
  for (const child of command.commands) sayUsageInOneLine(child, `${path} ${child.name()}`)
}

function withSource(command: Command): Command {
  return command
    .option('--config <file>', 'settings in YAML (moonlink.yaml)')
    .option('--source <url>', 'postgres://user:password@host:5432/database')
    .option('--state-dir <dir>', 'directory for what the backend itself keeps (.moonlink)')
    .option('--set <key=value>', 'any setting, such as flush.intervalMs=2s; repeatable', collect)
}

function withSettings(command: Command): Command {
  return withSource(command)
    .option('--table <schema.name>', 'table to mirror; repeatable; default: all; what tables add and tables drop changed stays so', collect)
    .option('--warehouse <place>', 'directory or s3://bucket/prefix for the Iceberg tables')
    .option('--http <host:port>', 'address of the HTTP API (127.0.0.1:3030)')
}

function settingsOf(flags: StartFlags): { readonly flags: Settings; readonly flagNames: ReadonlyMap<string, string> } {
  const settings: Settings = {}
  const flagNames = new Map<string, string>()
  const give = (key: string, value: unknown, flag: string) => {
    setKey(settings, key, value)
    flagNames.set(key, flag)
  }
  for (const assignment of flags.set ?? []) {
    const at = assignment.indexOf('=')
    if (at <= 0) throw usageError(`--set takes key=value, such as flush.intervalMs=2s, not "${assignment}".`)
    give(assignment.slice(0, at), assignment.slice(at + 1), '--set')
  }
  if (flags.source !== undefined) give('source.url', flags.source, '--source')
  if (flags.table !== undefined && flags.table.length > 0) give('source.tables', flags.table, '--table')
  if (flags.warehouse !== undefined) give('warehouse', flags.warehouse, '--warehouse')
  if (flags.stateDir !== undefined) give('stateDir', flags.stateDir, '--state-dir')
  if (flags.standby === true) give('standby.enabled', true, '--standby')
  if (flags.http !== undefined) give('http.listen', flags.http, '--http')
  return { flags: settings, flagNames }
}
