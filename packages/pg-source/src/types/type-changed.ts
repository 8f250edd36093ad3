import { MoonlinkError } from '@moonlink/core'

/** A value of a type that is not what it was when its column was mapped: somebody altered a composite type. */
export class TypeChangedError extends MoonlinkError {
  readonly typeName: string

  constructor(typeName: string, what: string) {
    super('invalid', 'TYPE_CHANGED', `type ${typeName} was altered: ${what}`, { context: { type: typeName } })
    this.name = 'TypeChangedError'
    this.typeName = typeName
  }
}
