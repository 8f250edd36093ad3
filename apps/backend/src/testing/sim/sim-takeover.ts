import { nextTurn, type SimClock } from './sim-clock.ts'
import type { Dice } from './random.ts'
import type { SimNode } from './sim-node.ts'

export interface SimTakeover {
  readonly dice: Dice
  readonly clock: SimClock
  readonly from: SimNode
  /** One that waits. */
  readonly to: SimNode
  readonly transact: () => void
  readonly read: (node: SimNode) => Promise<void>
}

/** A lease counts as given up after less than this many looks at it. */
const LOOKS = 30
const LOOK_MS = 1000
/** Turns of the event loop that a start takes, at most, where nothing fails. */
const START_TURNS = 150

/**
 * A standby takes over from a node that lives: the one stands still, whatever it has under way, until the other has its lease. It goes on at some moment of the other's start, when both may write
 * for a while, or once somebody has read from its successor.
 */
export async function takeOver({ clock, dice, from, to, read, transact }: SimTakeover): Promise<void> {
  const turns = async (count: number) => {
    for (let turn = 0; turn < count && to.process.isAlive; turn++) await nextTurn()
  }
  if (dice.chance(0.6)) void from.engine.flush().catch(() => undefined)
  await turns(dice.below(25))
  from.process.pause()
  for (let looks = 0; looks < LOOKS && to.process.isAlive && !to.hasLease; looks++) {
    clock.advance(LOOK_MS)
    await turns(6)
  }
  transact()
  if (dice.chance(0.6)) await turns(dice.below(START_TURNS))
  else {
    for (let patience = 0; patience < START_TURNS && !to.isUp && to.process.isAlive; patience++) await turns(4)
    transact()
    await turns(20)
    if (to.isUp) await read(to)
  }
  from.process.resume()
  if (from.isUp) await read(from)
}
