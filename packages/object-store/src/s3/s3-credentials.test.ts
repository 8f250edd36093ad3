import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { S3ObjectStore } from './s3-object-store.ts'
import type { S3ObjectStoreOptions } from './s3-options.ts'
import { startScripted, type Trouble } from './scripted-s3.test.support.ts'

/** Where credentials come from other than settings and `AWS_ACCESS_KEY_ID`: the SDK's chain, with the services it asks on loopback. */
const one = Uint8Array.of(1)
const closing: (() => unknown)[] = []
let home: string

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'moonlink-aws-'))
  closing.push(() => rm(home, { recursive: true }))
  for (const name of Object.keys(process.env).filter((name) => name.startsWith('AWS_'))) vi.stubEnv(name, undefined)
  vi.stubEnv('HOME', home)
  vi.stubEnv('AWS_CONFIG_FILE', join(home, 'config'))
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(home, 'credentials'))
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
  vi.stubEnv('AWS_REGION', 'eu-west-1')
})
afterEach(async () => {
  vi.unstubAllEnvs()
  for (const close of closing.splice(0).reverse()) await close()
})

async function write(name: string, text: string): Promise<string> {
  const path = join(home, name)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
  return path
}

/** A store that finds credentials by itself, and whose keys signed what was sent to it. */
async function storeAndSigners(script: readonly Trouble[] = [], options: S3ObjectStoreOptions = {}) {
  const server = await startScripted(script)
  closing.push(() => server.close())
  const store = new S3ObjectStore({ endpoint: server.endpoint, ...options })
  closing.push(() => store.close())
  return { put: () => store.put('s3://lake/t/v1', one), signers: server.signers }
}

/** A service that has credentials: what it answers to each request, and its address. */
async function service(answer: (url: URL, request: IncomingMessage) => { status?: number; body: string }): Promise<string> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { status = 200, body } = answer(new URL(`${request.url}?${Buffer.concat(chunks).toString()}`, 'http://x'), request)
      response.writeHead(status).end(body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const later = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString()

function assumed(action: string, keyId: string): string {
  const credentials = `<AccessKeyId>${keyId}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>${later(3600)}</Expiration>`
  return `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${action}Result><Credentials>${credentials}</Credentials><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/lake/m</Arn><AssumedRoleId>x:m</AssumedRoleId></AssumedRoleUser></${action}Result></${action}Response>`
}

const denied = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>`

const role = 'arn:aws:iam::123456789012:role/lake'

async function webIdentity(sts: string, tokenFile: string): Promise<void> {
  vi.stubEnv('AWS_ENDPOINT_URL_STS', sts)
  vi.stubEnv('AWS_ROLE_ARN', role)
  vi.stubEnv('AWS_WEB_IDENTITY_TOKEN_FILE', tokenFile)
}

async function sso(expiresAt: string): Promise<void> {
  await write(
    'config',
    '[profile lake]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = lake\n[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n',
  )
  const name = createHash('sha1').update('corp').digest('hex')
  await write(`.aws/sso/cache/${name}.json`, JSON.stringify({ accessToken: 'sso-token', expiresAt }))
  vi.stubEnv('AWS_PROFILE', 'lake')
}

const sources: Record<string, () => Promise<void>> = {
  'the shared credentials file': async () => {
    await write('credentials', '[default]\naws_access_key_id = FOUND\naws_secret_access_key = s\n')
  },
  'a profile of the shared configuration, whatever keys are set beside it': async () => {
    await write(
      'config',
      '[default]\naws_access_key_id = WRONG\naws_secret_access_key = s\n[profile lake]\naws_access_key_id = FOUND\naws_secret_access_key = s\n',
    )
    vi.stubEnv('AWS_PROFILE', 'lake')
  },
  'a process': async () => {
    const said = await write(
      'said',
      JSON.stringify({ Version: 1, AccessKeyId: 'FOUND', SecretAccessKey: 's', SessionToken: 't', Expiration: later(3600) }),
    )
    await write('config', `[default]\ncredential_process = cat ${said}\n`)
  },
  'a role that a profile assumes': async () => {
    const sts = await service((url, request) =>
      url.searchParams.get('Action') === 'AssumeRole' &&
      url.searchParams.get('RoleArn') === role &&
      request.headers.authorization?.includes('Credential=BASE/')
        ? { body: assumed('AssumeRole', 'FOUND') }
        : { status: 403, body: denied },
    )
    vi.stubEnv('AWS_ENDPOINT_URL_STS', sts)
    vi.stubEnv('AWS_PROFILE', 'lake')
    await write('credentials', '[base]\naws_access_key_id = BASE\naws_secret_access_key = s\n')
    await write('config', `[profile lake]\nrole_arn = ${role}\nsource_profile = base\n`)
  },
  'a web identity': async () => {
    const sts = await service((url) =>
      url.searchParams.get('Action') === 'AssumeRoleWithWebIdentity' && url.searchParams.get('WebIdentityToken') === 'pod-token'
        ? { body: assumed('AssumeRoleWithWebIdentity', 'FOUND') }
        : { status: 403, body: denied },
    )
    await webIdentity(sts, await write('token', 'pod-token'))
  },
  'a container': async () => {
    const token = await write('token', 'container-token')
    const uri = await service((_, request) =>
      request.headers.authorization === 'container-token'
        ? { body: JSON.stringify({ AccessKeyId: 'FOUND', SecretAccessKey: 's', Token: 't', Expiration: later(3600) }) }
        : { status: 401, body: '{}' },
    )
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `${uri}/credentials`)
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', token)
  },
  'an SSO session': async () => {
    await sso(later(3600))
    const portal = await service((url, request) =>
      url.searchParams.get('role_name')?.startsWith('lake') === true && request.headers['x-amz-sso_bearer_token'] === 'sso-token'
        ? {
            body: JSON.stringify({
              roleCredentials: { accessKeyId: 'FOUND', secretAccessKey: 's', sessionToken: 't', expiration: Date.now() + 3_600_000 },
            }),
          }
        : { status: 401, body: '{}' },
    )
    vi.stubEnv('AWS_ENDPOINT_URL_SSO', portal)
  },
}

test.each(Object.entries(sources))('credentials of %s sign', async (_, prepare) => {
  await prepare()
  const { put, signers } = await storeAndSigners()
  await put()
  expect(signers).toEqual(['FOUND'])
})

describe('credentials that change', () => {
  test('are had anew before they expire', async () => {
    let count = 0
    // The SDK begins to ask for others five minutes before.
    const uri = await service(() => ({
      body: JSON.stringify({ AccessKeyId: `K${++count}`, SecretAccessKey: 's', Token: 't', Expiration: later(200) }),
    }))
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', uri)
    const { put, signers } = await storeAndSigners()
    await put()
    await expect
      .poll(async () => {
        await put()
        return signers.at(-1)
      })
      .not.toBe('K1')
  })

  test('in a file are read again once the store refuses the ones before', async () => {
    await write('credentials', '[default]\naws_access_key_id = OLD\naws_secret_access_key = s\naws_session_token = t\n')
    const refused = { status: 400, code: 'ExpiredToken' }
    const { put, signers } = await storeAndSigners(['none', refused, 'none', refused])
    await put()
    await write('credentials', '[default]\naws_access_key_id = NEW\naws_secret_access_key = s\naws_session_token = t\n')
    await put()
    expect(signers).toEqual(['OLD', 'OLD', 'NEW'])
    await expect(put()).rejects.toMatchObject({
      kind: 'invalid',
      code: 'STORE_CREDENTIALS',
      message: expect.stringMatching(/expired.*renew/),
    })
    expect(signers).toHaveLength(4)
  })
})

const refusals: Record<string, [string, RegExp, () => Promise<void>]> = {
  'a process that fails': [
    'invalid',
    /credential_process/,
    async () => void (await write('config', '[default]\ncredential_process = false\n')),
  ],
  'a container whose service says no': [
    'invalid',
    /CREDENTIALS_FULL_URI says/,
    async () => {
      vi.stubEnv(
        'AWS_CONTAINER_CREDENTIALS_FULL_URI',
        await service(() => ({ status: 403, body: '{"code":"AccessDenied","message":"no such task"}' })),
      )
    },
  ],
  'a container whose service is gone': [
    'retry',
    /AWS_CONTAINER_CREDENTIALS_FULL_URI/,
    async () => {
      vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', 'http://127.0.0.1:9')
    },
  ],
  'a web identity without its token': [
    'invalid',
    /token-that-is-not-there.*AWS_WEB_IDENTITY_TOKEN_FILE/,
    () => webIdentity('http://127.0.0.1:9', join(home, 'token-that-is-not-there')),
  ],
  'a web identity that may not': [
    'invalid',
    /AssumeRoleWithWebIdentity/,
    async () => webIdentity(await service(() => ({ status: 403, body: denied })), await write('token', 't')),
  ],
  'a web identity whose STS is gone': ['retry', /ECONNREFUSED/, async () => webIdentity('http://127.0.0.1:9', await write('token', 't'))],
  'an SSO session that is over': ['invalid', /aws sso login/, () => sso(later(-60))],
}

test.each(Object.entries(refusals))('%s is named, with the remedy', async (_, [kind, said, prepare]) => {
  await prepare()
  // The SDK asks a service that is gone for longer than anybody waits here.
  const { put } = await storeAndSigners([], kind === 'retry' ? { timeoutMs: 500 } : {})
  const error: unknown = await put().catch((reason: unknown) => reason)
  expect(error).toMatchObject({ kind, code: 'STORE_CREDENTIALS', message: expect.stringMatching(said) })
})
