import type { JsonObject, JsonValue } from '@moonlink/core'

/** Avro schemas of Iceberg v3 manifests and manifest lists (Iceberg spec, "Manifests", "Manifest Lists"; appendix A for the ids). */

const field = (id: number, name: string, type: JsonValue): JsonObject => ({ name, type, 'field-id': id })
const optional = (id: number, name: string, type: JsonValue): JsonObject => ({
  name,
  type: ['null', type],
  default: null,
  'field-id': id,
})
const list = (elementId: number, items: JsonValue): JsonObject => ({ type: 'array', items, 'element-id': elementId })
/** A map with int keys: an array of key-value records, as Avro maps have string keys only. */
const intMap = (keyId: number, valueId: number, value: string): JsonObject => ({
  type: 'array',
  logicalType: 'map',
  items: { type: 'record', name: `k${keyId}_v${valueId}`, fields: [field(keyId, 'key', 'int'), field(valueId, 'value', value)] },
})

const dataFile: JsonObject = {
  type: 'record',
  name: 'r2',
  fields: [
    field(134, 'content', 'int'),
    field(100, 'file_path', 'string'),
    field(101, 'file_format', 'string'),
    field(102, 'partition', { type: 'record', name: 'r102', fields: [] }),
    field(103, 'record_count', 'long'),
    field(104, 'file_size_in_bytes', 'long'),
    optional(108, 'column_sizes', intMap(117, 118, 'long')),
    optional(109, 'value_counts', intMap(119, 120, 'long')),
    optional(110, 'null_value_counts', intMap(121, 122, 'long')),
    optional(137, 'nan_value_counts', intMap(138, 139, 'long')),
    optional(125, 'lower_bounds', intMap(126, 127, 'bytes')),
    optional(128, 'upper_bounds', intMap(129, 130, 'bytes')),
    optional(131, 'key_metadata', 'bytes'),
    optional(132, 'split_offsets', list(133, 'long')),
    optional(135, 'equality_ids', list(136, 'int')),
    optional(140, 'sort_order_id', 'int'),
    optional(142, 'first_row_id', 'long'),
    optional(143, 'referenced_data_file', 'string'),
    optional(144, 'content_offset', 'long'),
    optional(145, 'content_size_in_bytes', 'long'),
  ],
}

/** `manifest_entry` of an unpartitioned table. */
export const MANIFEST_ENTRY_SCHEMA: JsonObject = {
  type: 'record',
  name: 'manifest_entry',
  fields: [
    field(0, 'status', 'int'),
    optional(1, 'snapshot_id', 'long'),
    optional(3, 'sequence_number', 'long'),
    optional(4, 'file_sequence_number', 'long'),
    field(2, 'data_file', dataFile),
  ],
}

/** `manifest_file`, an entry of a manifest list. */
export const MANIFEST_FILE_SCHEMA: JsonObject = {
  type: 'record',
  name: 'manifest_file',
  fields: [
    field(500, 'manifest_path', 'string'),
    field(501, 'manifest_length', 'long'),
    field(502, 'partition_spec_id', 'int'),
    field(517, 'content', 'int'),
    field(515, 'sequence_number', 'long'),
    field(516, 'min_sequence_number', 'long'),
    field(503, 'added_snapshot_id', 'long'),
    field(504, 'added_files_count', 'int'),
    field(505, 'existing_files_count', 'int'),
    field(506, 'deleted_files_count', 'int'),
    field(512, 'added_rows_count', 'long'),
    field(513, 'existing_rows_count', 'long'),
    field(514, 'deleted_rows_count', 'long'),
    optional(
      507,
      'partitions',
      list(508, {
        type: 'record',
        name: 'r508',
        fields: [
          field(509, 'contains_null', 'boolean'),
          optional(518, 'contains_nan', 'boolean'),
          optional(510, 'lower_bound', 'bytes'),
          optional(511, 'upper_bound', 'bytes'),
        ],
      }),
    ),
    optional(519, 'key_metadata', 'bytes'),
    optional(520, 'first_row_id', 'long'),
  ],
}

/** Field names by id: writers may name fields otherwise, the ids are what counts. */
export const MANIFEST_ENTRY_NAMES: ReadonlyMap<number, string> = namesById(MANIFEST_ENTRY_SCHEMA)
export const MANIFEST_FILE_NAMES: ReadonlyMap<number, string> = namesById(MANIFEST_FILE_SCHEMA)

function namesById(schema: JsonValue): Map<number, string> {
  const names = new Map<number, string>()
  const visit = (node: JsonValue): void => {
    if (node === null || typeof node !== 'object') return
    if (Array.isArray(node)) return node.forEach(visit)
    const object = node as JsonObject
    if (typeof object['field-id'] === 'number') names.set(object['field-id'], object['name'] as string)
    Object.values(object).forEach(visit)
  }
  visit(schema)
  return names
}

/** The Iceberg form of an Avro schema above, which Java writes into the header beside Avro's own. */
export function icebergSchema(schema: JsonObject): JsonObject {
  return { ...(icebergType(schema) as JsonObject), 'schema-id': 0 }
}

function icebergType(schema: JsonValue): JsonValue {
  if (typeof schema === 'string') return schema === 'bytes' ? 'binary' : schema
  const node = schema as JsonObject
  if (node['type'] === 'record') return { type: 'struct', fields: (node['fields'] as readonly JsonObject[]).map(icebergField) }
  const items = node['items'] ?? null
  if (node['logicalType'] !== 'map') {
    return { type: 'list', 'element-id': node['element-id'] ?? null, element: icebergType(items), 'element-required': true }
  }
  const [key, value] = (items as JsonObject)['fields'] as readonly [JsonObject, JsonObject]
  return {
    type: 'map',
    'key-id': key['field-id'] ?? null,
    key: icebergType(key['type'] ?? null),
    'value-id': value['field-id'] ?? null,
    value: icebergType(value['type'] ?? null),
    'value-required': true,
  }
}

function icebergField(node: JsonObject): JsonObject {
  const type = node['type'] ?? null
  const required = !Array.isArray(type)
  const plain = Array.isArray(type) ? (type as readonly JsonValue[])[1]! : type
  return { id: node['field-id'] ?? null, name: node['name'] ?? null, required, type: icebergType(plain) }
}
