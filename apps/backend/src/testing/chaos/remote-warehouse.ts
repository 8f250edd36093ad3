import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { RestCatalog } from '@moonlink/catalog-rest'
import { S3ObjectStore } from '@moonlink/object-store'
import { interopScripts } from '../readers.ts'
import { pauseMs, type ChaosWarehouse, type Fault, type ReaderAccess } from './chaos-warehouse.ts'
import { answerFaults, HttpProxy } from './http-proxy.ts'
import { SmallDisk } from './small-disk.ts'
import { unneededFiles } from './unneeded-files.ts'

const run = promisify(execFile)
export const s3Credentials = { accessKey: 'interop', secretKey: 'interop-secret', region: 'us-east-1' } as const

/** What the run's files take is a fraction of it. */
const STORE_DISK_MIB = 512
/** Of the S3 server's volumes. */
const INDEX_ENTRY_BYTES = 17

/** A server of one of the interop scripts, on a port of its own, behind a proxy. */
class Server {
  readonly uri: string
  readonly proxy: HttpProxy
  private readonly name: string
  private readonly start: () => Promise<number>
  private pid: number

  private constructor(name: string, uri: string, pid: number, proxy: HttpProxy, start: () => Promise<number>) {
    this.name = name
    this.uri = uri
    this.pid = pid
    this.proxy = proxy
    this.start = start
  }

  static async start(
    name: string,
    command: readonly string[],
    port: number,
    environment: Readonly<Record<string, string>>,
  ): Promise<Server> {
    const [script, kind] = command
    const start = async () => {
      const { stdout } = await run('bash', [join(interopScripts, script), kind, String(port)], { env: { ...process.env, ...environment } })
      return Number(stdout.trim().split(' ')[1])
    }
    const pid = await start()
    const uri = `http://127.0.0.1:${port}`
    return new Server(name, uri, pid, await HttpProxy.start(uri), start)
  }

  /** `dice`: numbers in [0, 1). */
  faults(dice: () => number): Fault[] {
    const { name, proxy } = this
    const during = async (momentMs: number, begin: () => void, end: () => void) => {
      begin()
      await pauseMs(momentMs)
      end()
    }
    return [
      { name: `kill the ${name}`, inflict: (momentMs) => this.kill(momentMs) },
      {
        name: `freeze the ${name}`,
        inflict: (momentMs) =>
          during(
            momentMs,
            () => process.kill(this.pid, 'SIGSTOP'),
            () => process.kill(this.pid, 'SIGCONT'),
          ),
      },
      { name: `cut connections to the ${name}`, inflict: async () => proxy.cut() },
      {
        name: `stall connections to the ${name}`,
        inflict: (momentMs) =>
          during(
            momentMs,
            () => proxy.stall(),
            () => proxy.resume(),
          ),
      },
      {
        name: `lose answers of the ${name}`,
        inflict: async (momentMs) => {
          proxy.fault = ({ method }) => (method === 'GET' || dice() < 0.5 ? null : answerFaults[Math.floor(dice() * answerFaults.length)])
          await pauseMs(momentMs)
          proxy.fault = () => null
          await proxy.deliverLate()
        },
      },
    ]
  }

  async close(): Promise<void> {
    await this.proxy.close()
    process.kill(this.pid, 'SIGKILL')
  }

  /** Ends it, and starts it again after that moment, once `mend` is done with its program. */
  async kill(momentMs: number, mend: (program: string) => Promise<unknown> = async () => undefined): Promise<void> {
    const program = readlinkSync(`/proc/${this.pid}/exe`)
    process.kill(this.pid, 'SIGKILL')
    await pauseMs(momentMs)
    await mend(program)
    this.pid = await this.start()
  }
}

/** The reference REST catalog, which keeps its state on disk, and an S3 server: processes of the run's own. */
export class RemoteWarehouse implements ChaosWarehouse {
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly faults: readonly Fault[]
  private readonly servers: readonly Server[]
  private readonly disk: SmallDisk

  private constructor(catalog: Server, store: Server, disk: SmallDisk, dice: () => number) {
    this.servers = [catalog, store]
    this.disk = disk
    this.args = ['--warehouse', 's3://warehouse/chaos', '--set', 'catalog.kind=rest', '--set', `catalog.uri=${catalog.proxy.uri}`]
    this.environment = {
      AWS_ENDPOINT_URL: store.proxy.uri,
      AWS_ACCESS_KEY_ID: s3Credentials.accessKey,
      AWS_SECRET_ACCESS_KEY: s3Credentials.secretKey,
      AWS_REGION: s3Credentials.region,
      MOONLINK_CATALOG_TIMEOUT_MS: '2s',
      MOONLINK_S3_TIMEOUT_MS: '2s',
    }
    this.faults = [...this.servers.flatMap((server) => server.faults(dice)), ...disk.faults.map((fault) => mendedBy(store, disk, fault))]
  }

  static async open(directory: string, dice: () => number): Promise<RemoteWarehouse> {
    mkdirSync(directory, { recursive: true })
    // The S3 server takes ports from a thousand above on.
    const port = 21_000 + (process.pid % 4000) * 2
    const disk = SmallDisk.mount('store', join(directory, 's3'), STORE_DISK_MIB)
    const store = await Server.start('store', ['start-s3.sh', 'weed'], port, { S3_DATA: disk.directory }).catch((error: unknown) => {
      disk.unmount()
      throw error
    })
    const properties = [
      `uri=jdbc:sqlite:${join(directory, 'catalog.db')}`,
      `warehouse=file://${join(directory, 'warehouse')}`,
      'io-impl=org.apache.iceberg.io.ResolvingFileIO',
      ...Object.entries(fileIo(store.uri)).map(([key, value]) => `${key}=${value}`),
    ]
    try {
      const environment = { FIXTURE_PROPS: properties.join(' ') }
      const catalog = await Server.start('catalog', ['start-rest-catalog.sh', 'fixture'], port + 1, environment)
      return new RemoteWarehouse(catalog, store, disk, dice)
    } catch (error) {
      await store.close()
      disk.unmount()
      throw error
    }
  }

  /** Through the catalog and the store themselves, without the proxies. */
  async access(names: readonly string[], directory: string): Promise<ReaderAccess> {
    const [catalog, store] = this.servers
    const metadata = await Promise.all(
      names.map(async (table) => {
        const [namespace, name] = table.split('.')
        const loaded = (await (await fetch(`${catalog.uri}/v1/namespaces/${namespace}/tables/${name}`)).json()) as { metadata: unknown }
        const file = join(directory, `${table}.json`)
        writeFileSync(file, JSON.stringify(loaded.metadata))
        return file
      }),
    )
    const ofCatalog = (properties: Readonly<Record<string, string>>) => {
      const props = Object.entries({ ...fileIo(store.uri), ...properties }).flatMap(([key, value]) => ['--prop', `${key}=${value}`])
      return names.map((name) => ['--uri', catalog.uri, ...props, name])
    }
    return {
      metadata,
      spark: ofCatalog({ 'io-impl': 'org.apache.iceberg.aws.s3.S3FileIO' }),
      pyiceberg: ofCatalog({ 's3.region': s3Credentials.region }),
      duckdbPrelude: duckdbWithS3(store.uri),
    }
  }

  async unneeded(names: readonly string[]): Promise<readonly string[]> {
    const [catalog, store] = this.servers
    const { accessKey: accessKeyId, region, secretKey: secretAccessKey } = s3Credentials
    const s3 = new S3ObjectStore({ endpoint: store.uri, region, credentials: { accessKeyId, secretAccessKey } })
    try {
      const left = await unneededFiles(s3, new RestCatalog({ uri: catalog.uri }), names)
      // Those are the catalog's, which leaves one behind where it is killed, or refuses a commit.
      return left.filter((uri) => !uri.endsWith('.metadata.json'))
    } finally {
      await s3.close()
    }
  }

  async close(): Promise<void> {
    for (const server of this.servers) await server.close()
    this.disk.unmount()
  }
}

/**
 * Once a write of its own database has failed, this server refuses every further one, room or not, until it is started again. An entry of a volume's index that the
 * full disk cut short would keep it from opening that volume, with what it had acknowledged there: then it makes the indexes anew from the volumes.
 */
function mendedBy(store: Server, disk: SmallDisk, { inflict, name }: Fault): Fault {
  return {
    name,
    inflict: async (momentMs) => {
      await inflict(momentMs)
      await store.kill(0, async (program) => {
        if (hasCutIndex(disk.directory)) await run(program, ['fix', disk.directory])
      })
    },
  }
}

function hasCutIndex(directory: string): boolean {
  const indexes = readdirSync(directory).filter((name) => name.endsWith('.idx'))
  return indexes.some((name) => statSync(join(directory, name)).size % INDEX_ENTRY_BYTES !== 0)
}

/** How Iceberg's Java library reaches the store. */
function fileIo(storeUri: string): Readonly<Record<string, string>> {
  return {
    's3.endpoint': storeUri,
    's3.path-style-access': 'true',
    's3.access-key-id': s3Credentials.accessKey,
    's3.secret-access-key': s3Credentials.secretKey,
    'client.region': s3Credentials.region,
  }
}

/** Python that lets DuckDB's connections reach the store. */
function duckdbWithS3(storeUri: string): string {
  const { accessKey, region, secretKey } = s3Credentials
  const secret = `TYPE s3, KEY_ID '${accessKey}', SECRET '${secretKey}', REGION '${region}', ENDPOINT '${new URL(storeUri).host}', URL_STYLE 'path', USE_SSL false`
  return `
import duckdb, duckdb_extension_httpfs, os
plain = duckdb.connect
def connect(*args, **kwargs):
    connection = plain(*args, **kwargs)
    directory = os.path.dirname(duckdb_extension_httpfs.__file__)
    connection.execute(f"LOAD '{directory}/extensions/v{duckdb.__version__}/httpfs.duckdb_extension'")
    connection.execute("CREATE SECRET (${secret})")
    return connection
duckdb.connect = connect
`
}
