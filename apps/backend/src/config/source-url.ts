/** A source's URL without its password, for messages and logs. */
export function redactUrl(url: string): string {
  // By hand, not by `URL`: a user with an empty host (a socket directory in the query) is no URL to it.
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^?]*)(?:\?(.*))?$/.exec(url)
  if (!match) return 'the source'
  const user = (match[1] ?? '').split(':')[0]
  const query = new URLSearchParams(match[3] ?? '')
  query.delete('password')
  return `postgres://${user === '' ? '' : `${user}@`}${match[2]}${query.size === 0 ? '' : `?${query.toString()}`}`
}
