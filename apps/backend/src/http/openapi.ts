import { z } from 'zod'
import { errorSchema } from './schemas.ts'
import type { Endpoint } from './endpoints.ts'

type Json = Record<string, unknown>

/** The OpenAPI 3.1 document of these endpoints; every schema is the one that the requests are checked with. */
export function openApiDocument(endpoints: readonly Endpoint[], secured: boolean): Json {
  const schemas: Json = {}
  const paths: Record<string, Json> = {}
  for (const endpoint of endpoints) {
    const operation = describe(endpoint, schemas)
    paths[endpoint.path.replaceAll(/:(\w+)/g, '{$1}')] = {
      ...paths[endpoint.path.replaceAll(/:(\w+)/g, '{$1}')],
      [endpoint.method]: operation,
    }
  }
  const failure = failureAnswer(schemas)
  const page = { description: 'The metrics.', content: { 'text/plain': { schema: { type: 'string' } } } }
  paths['/metrics'] = {
    get: { operationId: 'metrics', summary: "Metrics in Prometheus' text format.", responses: { 200: page, default: failure } },
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Moonlink',
      version: '1',
      description: 'Operates a mirror of Postgres tables in Apache Iceberg.',
      license: { name: 'Apache-2.0' },
    },
    ...(secured ? { security: [{ bearer: [] }] } : {}),
    paths,
    components: { schemas, ...(secured ? { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } } : {}) },
  }
}

function describe(endpoint: Endpoint, schemas: Json): Json {
  return {
    operationId: endpoint.name,
    summary: endpoint.summary,
    ...(endpoint.open ? { security: [] } : {}),
    ...parametersOf(endpoint),
    ...(endpoint.body ? { requestBody: requestBody(endpoint.body, schemas) } : {}),
    responses: {
      [String(endpoint.successStatus ?? 200)]: { description: 'Done.', content: answers(endpoint, schemas) },
      ...Object.fromEntries(
        Object.entries(endpoint.otherStatuses ?? {}).map(([status, description]) => [
          status,
          { description, content: answers(endpoint, schemas) },
        ]),
      ),
      default: failureAnswer(schemas),
    },
  }
}

function failureAnswer(schemas: Json): Json {
  return { description: 'It failed; the body says why.', content: jsonContent(errorSchema, schemas, 'output') }
}

/** Required where an empty object would not do. */
function requestBody(body: z.ZodType, schemas: Json): Json {
  return { required: !body.safeParse({}).success, content: jsonContent(body, schemas, 'input') }
}

/** By content type; of lines the schema says what one line is, as OpenAPI 3.2 has it. */
function answers(endpoint: Endpoint, schemas: Json): Json {
  return {
    ...(endpoint.response === undefined ? {} : jsonContent(endpoint.response, schemas, 'output')),
    ...(endpoint.lines === undefined ? {} : { 'application/x-ndjson': { schema: reference(endpoint.lines, schemas, 'output') } }),
  }
}

function parametersOf(endpoint: Endpoint): Json {
  const inPath = [...endpoint.path.matchAll(/:(\w+)/g)].map((match) => ({
    name: match[1],
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }))
  const properties =
    endpoint.query === undefined ? {} : ((z.toJSONSchema(endpoint.query, { io: 'input' }) as { properties?: Json }).properties ?? {})
  const inQuery = Object.entries(properties).map(([name, schema]) => ({ name, in: 'query', required: false, schema }))
  const parameters = [...inPath, ...inQuery]
  return parameters.length === 0 ? {} : { parameters }
}

function jsonContent(schema: z.ZodType, schemas: Json, io: 'input' | 'output'): Json {
  return { 'application/json': { schema: reference(schema, schemas, io) } }
}

/** Puts the schema, and those it names, among the components and returns a reference. */
function reference(schema: z.ZodType, schemas: Json, io: 'input' | 'output'): Json {
  const { $schema: _, $defs, ...body } = z.toJSONSchema(schema, { io, target: 'draft-2020-12' }) as Json & { $defs?: Json }
  for (const [name, definition] of Object.entries($defs ?? {})) schemas[name] = rewriteReferences(definition)
  // A schema that has an id is among the definitions itself, and the body is the reference to it.
  return rewriteReferences(body) as Json
}

function rewriteReferences(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(rewriteReferences)
  if (typeof node !== 'object' || node === null) return node
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key]) => key !== 'id')
      .map(([key, value]) => [
        key,
        key === '$ref' && typeof value === 'string' ? value.replace('#/$defs/', '#/components/schemas/') : rewriteReferences(value),
      ]),
  )
}
