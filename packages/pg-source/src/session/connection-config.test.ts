import { expect, test } from 'vitest'
import { parseConnectionString, placesOf } from './connection-config.ts'
import { planTls } from './tls.ts'

test.each([
  [
    'postgres://u:p%40ss@db.example:5433/shop?sslmode=require',
    { user: 'u', password: 'p@ss', host: 'db.example', port: 5433, database: 'shop', sslmode: 'require' },
  ],
  ['postgresql://localhost', { host: 'localhost' }],
  ['postgres:///shop', { database: 'shop' }],
  ['postgres://u@[::1]:5432/shop', { user: 'u', host: '::1', port: 5432, database: 'shop' }],
  ['postgres://u:p@%2Frun%2Fpg/shop', { user: 'u', password: 'p', host: '/run/pg', database: 'shop' }],
  ['postgres:///shop?host=/run/pg&port=5433&user=u', { database: 'shop', host: '/run/pg', port: 5433, user: 'u' }],
  [
    `host=db.example port=5432 dbname='my shop' user=u password='it\\'s'`,
    { host: 'db.example', port: 5432, database: 'my shop', user: 'u', password: `it's` },
  ],
  ['postgres://u@a,b:5433,[::1]/shop', { user: 'u', host: 'a,b,::1', port: '5432,5433,5432', database: 'shop' }],
  ['host=a,b port=5432,5433 target_session_attrs=read-write', { host: 'a,b', port: '5432,5433' }],
])('%s', (text, parts) => {
  expect(parseConnectionString(text)).toEqual(parts)
})

test.each([
  ['postgres://a:1,b:0x9/shop', /postgres:\/\//],
  ['postgres://h/db?sslmode=maybe', /sslmode/],
  ['postgres://h:99999/db', /port/],
  ['postgres://u:50%@h/db', /%25/],
  ['shop', /postgres:\/\//],
  ['', /postgres:\/\//],
])('%s is refused', (text, message) => {
  expect(() => parseConnectionString(text)).toThrow(message)
})

test('several hosts have a port each, or one for all', () => {
  expect(placesOf('a,b', 5433)).toEqual([
    { host: 'a', port: 5433 },
    { host: 'b', port: 5433 },
  ])
  expect(placesOf('a, b', '1,2')).toEqual([
    { host: 'a', port: 1 },
    { host: 'b', port: 2 },
  ])
  expect(() => placesOf('a,b,c', '1,2')).toThrow(/3 hosts and 2 ports/)
  expect(() => placesOf('a,,c', 1)).toThrow(/empty host/)
  expect(() => placesOf('a,b', '1,99999')).toThrow(/port/)
})

test('a password never gets into the message', () => {
  expect(() => parseConnectionString('postgres://u:geheim@h/db?bad=1')).toThrow(
    expect.not.objectContaining({ message: expect.stringContaining('geheim') as string }),
  )
})

test('TLS is verified by default, save on this machine', () => {
  const plan = (sslmode: 'prefer' | 'require' | 'verify-full' | 'disable' | undefined, host: string) => {
    const { mode, ssl, mayFallBack } = planTls(sslmode === undefined ? {} : { sslmode }, host)
    return [mode, ssl === false ? 'plain' : ssl.rejectUnauthorized, mayFallBack]
  }
  expect(plan(undefined, 'db.example')).toEqual(['verify-full', true, false])
  expect(plan(undefined, '127.0.0.1')).toEqual(['prefer', false, true])
  expect(plan(undefined, '/run/pg')).toEqual(['prefer', 'plain', false])
  expect(plan('require', 'db.example')).toEqual(['require', false, false])
  expect(plan('disable', 'db.example')).toEqual(['disable', 'plain', false])
  expect(() => planTls({ sslmode: 'verify-ca' }, 'db.example')).toThrow(/sslrootcert/)
  expect(() => planTls({ sslrootcert: '/no/such.pem' }, 'db.example')).toThrow(/\/no\/such\.pem/)
})

test('what follows a ? in a password is not said', () => {
  expect(() => parseConnectionString('postgres://u:12?secret@host/db')).toThrow(/unknown parameter; known are/)
  expect(() => parseConnectionString('postgres://u:12@secret@host/db')).toThrow(
    /^(?!.*secret).*an @ in a user or a password is written %40/,
  )
  expect(() => parseConnectionString('postgres://u@host/db?colour=1')).toThrow(/unknown parameter "colour"/)
})
