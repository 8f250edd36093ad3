import fc, { type GeneratorValue } from 'fast-check'

/** Choices that fast-check makes, so that its seed and path replay them. */
export class Choices {
  private readonly generate: GeneratorValue

  constructor(generate: GeneratorValue) {
    this.generate = generate
  }

  below(limit: number): number {
    return this.generate(fc.nat, limit - 1)
  }

  chance(percent: number): boolean {
    return this.below(100) < percent
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]
  }

  /** Some of the items, at least one, in their order. */
  some<T>(items: readonly T[]): T[] {
    const chosen = items.filter(() => this.chance(50))
    return chosen.length > 0 ? chosen : [this.pick(items)]
  }

  /** One of the answers; one that stands there more often is given more often. */
  one<T>(...answers: readonly (() => T)[]): T {
    return this.pick(answers)()
  }
}
