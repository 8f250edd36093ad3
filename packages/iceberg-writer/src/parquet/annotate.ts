import type { Field, FieldType } from '@moonlink/core'
import { FileMetaData, LogicalType, SchemaElement } from './footer.ts'
import { ThriftStruct } from './thrift-compact.ts'

/** `ConvertedType.DECIMAL`. */
const CONVERTED_DECIMAL = 5

/** True for a decimal that is handed to the Parquet writer as plain 32-bit integers: it would write precision 1 as INT64, not INT32. */
export function isWrittenAsInt(type: FieldType): boolean {
  return type.kind === 'decimal' && type.precision === 1
}

/** Writes the annotations of a schema that the Parquet writer cannot: uuid, and decimals it got as integers. */
export function annotate(metadata: ThriftStruct, fields: readonly Field[]): void {
  const types = new Map<number, FieldType>(fields.flatMap(leavesOf))
  for (const element of metadata.structs(FileMetaData.SCHEMA)) {
    const type = types.get(element.i32(SchemaElement.FIELD_ID) ?? 0)
    if (type?.kind === 'uuid') element.setStruct(SchemaElement.LOGICAL_TYPE, union(LogicalType.UUID, new ThriftStruct()))
    if (type?.kind === 'decimal' && isWrittenAsInt(type)) {
      const decimal = new ThriftStruct().setI32(1, type.scale).setI32(2, type.precision)
      element
        .setI32(SchemaElement.CONVERTED_TYPE, CONVERTED_DECIMAL)
        .setI32(SchemaElement.SCALE, type.scale)
        .setI32(SchemaElement.PRECISION, type.precision)
        .setStruct(SchemaElement.LOGICAL_TYPE, union(LogicalType.DECIMAL, decimal))
    }
  }
}

function leavesOf({ id, type }: Pick<Field, 'id' | 'type'>): (readonly [number, FieldType])[] {
  if (type.kind === 'list') return leavesOf({ id: type.elementId, type: type.element })
  return type.kind === 'struct' ? type.fields.flatMap(leavesOf) : [[id, type]]
}

function union(id: number, value: ThriftStruct): ThriftStruct {
  return new ThriftStruct().setStruct(id, value)
}
