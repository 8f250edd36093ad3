import type { HttpProxy, ProxiedRequest } from './chaos/http-proxy.ts'

export const s3Permissions = ['s3:PutObject', 's3:GetObject', 's3:DeleteObject', 's3:ListBucket'] as const
export type S3Permission = (typeof s3Permissions)[number]

const permissionOf: Readonly<Record<string, S3Permission>> = {
  PUT: 's3:PutObject',
  POST: 's3:PutObject',
  GET: 's3:GetObject',
  HEAD: 's3:GetObject',
  DELETE: 's3:DeleteObject',
}

/**
 * Has the S3 server behind the proxy refuse a permission on what begins with `s3://bucket/prefix`, as a policy of the bucket does, until `proxy.instead` is set anew. Who may not list is not told
 * that an object is not there either.
 */
export function denyPrefix(proxy: HttpProxy, uri: string, permission: S3Permission): void {
  proxy.instead = (request, status) => {
    const { isList, target } = targetOf(request)
    if (!target.startsWith(uri)) return null
    const needed = isList ? 's3:ListBucket' : permissionOf[request.method]
    const isHidden = status === 404 && permission === 's3:ListBucket'
    return needed === permission || isHidden ? accessDenied(permission, target) : null
  }
}

function targetOf({ method, path }: ProxiedRequest): { readonly isList: boolean; readonly target: string } {
  const { pathname, searchParams } = new URL(path, 'http://s3')
  const isList = method === 'GET' && searchParams.has('list-type')
  const key = isList ? `${pathname.replace(/\/*$/, '/')}${searchParams.get('prefix') ?? ''}` : decodeURIComponent(pathname)
  return { isList, target: `s3:/${key}` }
}

function accessDenied(permission: S3Permission, target: string) {
  const resource = target.replace('s3://', 'arn:aws:s3:::')
  const message = `User: arn:aws:iam::123456789012:user/mirror is not authorized to perform: ${permission} on resource: &quot;${resource}&quot; with an explicit deny in a resource-based policy`
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>${message}</Message><RequestId>7ZT1</RequestId><HostId>aG9zdA==</HostId></Error>`
  return { status: 403, type: 'application/xml', body }
}
