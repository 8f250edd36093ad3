import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { HttpProxy, type OtherAnswer, type ProxiedRequest } from './testing/chaos/http-proxy.ts'
import { GoodAndBad } from './testing/good-and-bad.ts'
import { s3Environment, serverSetting } from './testing/s3-environment.ts'
import { until } from './testing/until.ts'

/** A catalog that refuses requests for one table alone, in whatever way. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-denied-rest-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const { bucket, env: s3 } = s3Environment()

let pair: GoodAndBad
let proxy: HttpProxy
let schema: string

beforeEach(async () => {
  schema = `denied_${randomBytes(4).toString('hex')}`
  proxy = await HttpProxy.start(serverSetting('MOONLINK_TEST_REST_URI'))
  pair = await GoodAndBad.create(await postgres.createDatabase(), directory, schema)
})
afterEach(async () => {
  await pair.kill()
  await proxy.close()
})

const launch = () => {
  const catalog = ['--set', 'catalog.kind=rest', '--set', `catalog.uri=${proxy.uri}`, '--set', 'catalog.token=given']
  const place = ['--state-dir', join(directory, schema), '--warehouse', `s3://${bucket}/${schema}`]
  pair.launch([...place, ...catalog], { ...s3, MOONLINK_FLUSH_DENIED_MS: '2s' })
}
const start = async () => {
  launch()
  await pair.backend.ready()
}

const ofCatalog = (status: number, type: string, message: string): OtherAnswer => ({
  status,
  type: 'application/json',
  body: JSON.stringify({ error: { message, type, code: status } }),
})
const ofGateway = (status: number, title: string): OtherAnswer => ({
  status,
  type: 'text/html',
  body: `<html><head><title>${status} ${title}</title></head><body><center><h1>${status} ${title}</h1></center></body></html>`,
})
const isOfBad = ({ path }: ProxiedRequest) => new URL(path, 'http://catalog').pathname.endsWith(`/namespaces/${schema}/tables/bad`)
const isCommit = (request: ProxiedRequest) => request.method === 'POST' && isOfBad(request)
const isLoad = (request: ProxiedRequest) => request.method === 'GET' && isOfBad(request)
const refuse = (which: (request: ProxiedRequest) => boolean, answer: OtherAnswer) => {
  proxy.instead = (request, status) => (status === null && which(request) ? answer : null)
}
const allow = () => (proxy.instead = () => null)
const reasonOf = async () => (await pair.state()).reason

const forbidden = ofCatalog(403, 'ForbiddenException', 'Principal mirror is not authorized for op UPDATE_TABLE')
const expired = ofCatalog(401, 'NotAuthorizedException', 'The token has expired')

test.each([
  ['403', forbidden, /^CATALOG_DENIED .*UPDATE_TABLE; give the token's principal the privilege/],
  ['401', expired, /^CATALOG_DENIED .*The token has expired; is the token right and still valid\?/],
  ['404 of a gateway', ofGateway(404, 'Not Found'), /^CATALOG_NOT_FOUND /],
  ['400', ofCatalog(400, 'BadRequestException', 'a policy wants another name'), /^CATALOG_REFUSED .*a policy wants another name/],
  ['409', ofCatalog(409, 'CommitFailedException', 'Requirement failed: branch main has changed'), /^COMMIT_CONFLICT /],
  ['500', ofGateway(500, 'Internal Server Error'), /^(CATALOG_UNAVAILABLE|COMMIT_UNKNOWN) /],
])('a table whose commits alone are answered by %s is stopped, and goes on by itself once they are not', async (_, answer, reason) => {
  await start()
  await pair.change()
  await pair.backend.wait({ iceberg: true })
  refuse(isCommit, answer)
  await pair.changeUntilStopped()
  expect(await reasonOf()).toMatch(reason)
  await pair.slotFollows()
  allow()
  await pair.isState('streaming')
  await pair.change()
  await pair.expectEqual()
  expect(await pair.backend.stop()).toBe(0)
})

test.each([
  ['403', forbidden, /^CATALOG_DENIED /],
  ['404 of a gateway', ofGateway(404, 'Not Found'), /^CATALOG_NOT_FOUND /],
  ['404, as if it were not there', ofCatalog(404, 'NoSuchTableException', 'Table does not exist'), /^CATALOG_DENIED .*does not show it/],
  ['500', ofGateway(500, 'Internal Server Error'), /^CATALOG_UNAVAILABLE /],
])(
  'a table that alone is answered by %s at a start keeps no other from being mirrored, and goes on by itself',
  async (_, answer, reason) => {
    await start()
    await pair.change()
    await pair.expectEqual()
    await pair.kill()
    await pair.change()
    refuse(isLoad, answer)
    launch()
    await pair.isState('failed')
    expect(await reasonOf()).toMatch(reason)
    await pair.change()
    await pair.backend.wait()
    allow()
    await pair.isState('streaming')
    await pair.expectEqual()
    expect(await pair.backend.stop()).toBe(0)
  },
)

test('a table whose first copy alone is refused is paused, and copied once it is not', async () => {
  const isOfRows = (request: ProxiedRequest) => isCommit(request) && request.body.includes('"add-snapshot"')
  refuse(isOfRows, ofCatalog(400, 'BadRequestException', 'a policy wants another name'))
  launch()
  await until('its copy to be refused', async () => (await reasonOf())?.startsWith('CATALOG_REFUSED ') === true)
  await pair.change()
  await pair.slotFollows()
  allow()
  await pair.isState('streaming')
  await pair.expectEqual()
  expect(await pair.backend.stop()).toBe(0)
})

test('a table that another program dropped in the catalog holds nothing, and is copied by the next process', async () => {
  await start()
  await pair.expectEqual()
  const dropped = await fetch(`${serverSetting('MOONLINK_TEST_REST_URI')}/v1/namespaces/${schema}/tables/bad`, { method: 'DELETE' })
  expect(dropped.ok).toBe(true)
  await pair.changeUntilStopped()
  expect(await reasonOf()).toMatch(/^TABLE_GONE /)
  await pair.slotFollows()
  await pair.backend.stop()
  await start()
  await pair.expectEqual()
})
