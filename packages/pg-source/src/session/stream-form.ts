import { formatTableName, MoonlinkError } from '@moonlink/core'
import type { MappedShape, StreamForm } from './describe-shape.ts'

interface TableForm extends StreamForm {
  readonly table: string
}

/**
 * The form in which the values of all these tables can be streamed: binary unless a column needs text. Throws
 * `invalid`/`STREAM_FORM_CONFLICT` where one needs the one form, and another the other.
 */
export function streamForm(tables: readonly Pick<MappedShape, 'table' | 'streamForms'>[]): 'binary' | 'text' {
  const forms = tables.flatMap((table) => table.streamForms.map((form): TableForm => ({ ...form, table: formatTableName(table.table) })))
  const text = forms.find(({ form }) => form === 'text')
  const binary = forms.find(({ form }) => form === 'binary')
  if (text && binary) {
    throw new MoonlinkError(
      'invalid',
      'STREAM_FORM_CONFLICT',
      `${binary.table}: column "${binary.column}" has type ${binary.typeName}, which can be read from a binary stream only, while ${text.table} has column "${text.column}" of type ${text.typeName}, which needs one of text. Map one of them as string, or leave it out: source.columns: {${binary.table}: {${binary.column}: string}}.`,
      { context: { binary: `${binary.table}.${binary.column}`, text: `${text.table}.${text.column}` } },
    )
  }
  return text ? 'text' : 'binary'
}
