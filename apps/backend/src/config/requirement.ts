import type { z } from 'zod'

type Issue = z.core.$ZodIssue

/** What a value that zod refuses has to be, as the end of a sentence that begins with the value. */
export function requirement(issue: Issue): string {
  if (issue.code === 'invalid_value') return `must be one of ${issue.values.map(String).join(', ')}`
  if (issue.code === 'too_small' && issue.origin === 'string') return `must have at least ${issue.minimum} characters`
  if (issue.code === 'too_small' && issue.origin === 'array')
    return `must have at least ${Number(issue.minimum) === 1 ? '1 item' : `${issue.minimum} items`}`
  if (issue.code === 'too_small') return `must be at least ${issue.minimum}`
  if (issue.code === 'too_big') return `must be at most ${issue.maximum}`
  if (issue.code === 'invalid_type') return `must be ${issue.expected === 'int' ? 'a whole number' : `of type ${issue.expected}`}`
  if (issue.code === 'invalid_union') return requirementOfUnion(issue.errors)
  if (issue.code === 'invalid_format' && issue.format === 'url') return 'must be a URL such as https://host/path'
  return issue.message
}

function requirementOfUnion(errors: readonly (readonly Issue[])[]): string {
  const deepest = errors.flat().find((issue) => issue.path.length > 0 && issue.code !== 'invalid_type') ?? errors.flat()[0]
  const kinds = errors.flatMap((issues) => issues.flatMap((issue) => (issue.code === 'invalid_type' ? [issue.expected] : [])))
  if (deepest !== undefined && deepest.code !== 'invalid_type') return requirement(deepest)
  return `must be of type ${[...new Set(kinds)].join(' or ')}`
}
