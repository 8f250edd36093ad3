import { MoonlinkError } from '@moonlink/core'

export function objectNotFound(uri: string, cause?: unknown): MoonlinkError {
  return new MoonlinkError('invalid', 'OBJECT_NOT_FOUND', `there is no object ${uri}. Was it removed by another program or a clean-up?`, {
    context: { uri },
    cause,
  })
}
