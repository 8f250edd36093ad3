import { MoonlinkError } from '@moonlink/core'

/** Thrown where a backend was asked to stop before it mirrored anything. */
export const stoppedBeforeMirroring = new Error('the backend was stopped before it mirrored anything')

/** What is answered to whoever asks a backend that is stopping. `cause`: what a request under way found closed. */
export function stoppingError(cause?: Error): MoonlinkError {
  return new MoonlinkError('retry', 'STOPPING', 'the backend is stopping; start it again with moonlink start.', { cause })
}
