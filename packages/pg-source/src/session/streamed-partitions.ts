import { formatTableName, maxLsn, type Lsn, type TableName } from '@moonlink/core'
import type { PartitionListener } from '../decode/index.ts'
import type { PartitionRow } from './catalog-rows.ts'

/** Partitions of a table as two looks at the catalog show them, the same but for what is named here. */
export interface PartitionLook {
  readonly now: readonly PartitionRow[]
  /** Object ids of those that came, without rows. */
  readonly came: ReadonlySet<number>
  /** Those that have another file. */
  readonly refiled: readonly PartitionRow[]
  /** Covers all that the look shows. */
  readonly lsn: Lsn
}

/** Why rows may have gone that the stream does not say; null where none have, undefined where that is not known before the stream is at the look. */
export type PartitionJudgement = string | null | undefined

interface Told {
  /** By object id, where rows of a partition were first announced since that was last looked at. */
  readonly carried: Map<number, Lsn>
  /** By object id, where a partition that came was known to be empty, until the stream is there. */
  readonly emptyAt: Map<number, Lsn>
  /** Where a partition's other file was noticed, by object id and `relfilenode`. */
  readonly refiledAt: Map<string, Lsn>
  /** The last transactions at whose end the table was empty, since they truncated it. */
  emptiedBy: readonly number[]
  /** What commits up to here is in the table's copy. */
  copiedLsn: Lsn
}

/** As many truncations as may be committed while a look at the catalog is under way. */
const TRUNCATIONS = 8

/**
 * What the stream of partitioned tables tells of their partitions: out of which rows came, and who emptied all of them. Together with looks at the catalog that
 * shows what it leaves out: rows that went with a partition, or when one was truncated by itself.
 */
export class StreamedPartitions implements PartitionListener {
  /** Every transaction that ends at or before this has told what it does; null where there is no stream. */
  position: () => Lsn | null = () => null
  private readonly tables = new Map<string, Told>()

  carried(table: TableName, oid: number, lsn: Lsn): void {
    const { carried, copiedLsn } = this.told(formatTableName(table))
    if (lsn > copiedLsn && !carried.has(oid)) carried.set(oid, lsn)
  }

  emptied(table: TableName, xid: number): void {
    const told = this.told(formatTableName(table))
    told.emptiedBy = [...told.emptiedBy, xid].slice(-TRUNCATIONS)
  }

  /** The table is copied or compared at an LSN behind this one, with the partitions that it had there. */
  copied(name: string, lsn: Lsn): void {
    const told = this.told(name)
    told.copiedLsn = lsn
    for (const [oid, at] of told.carried) if (at <= lsn) told.carried.delete(oid)
    told.emptyAt.clear()
    told.refiledAt.clear()
  }

  forget(name: string): void {
    this.tables.delete(name)
  }

  /** Whether it has anything to say of partitions that seem to be the same. */
  hasNews(name: string): boolean {
    const told = this.tables.get(name)
    return told !== undefined && (told.carried.size > 0 || told.emptyAt.size > 0)
  }

  /** Partitions of which more is known than of these, and those of these of which less is: a later process would not learn of them. */
  unsettled(name: string, partitions: readonly PartitionRow[]): { readonly gone: readonly number[]; readonly unsure: ReadonlySet<number> } {
    const { carried, emptyAt } = this.told(name)
    const position = this.position() ?? 0n
    const unsure = new Set([...emptyAt].filter(([oid, lsn]) => position < lsn || (carried.get(oid) ?? lsn + 1n) <= lsn).map(([oid]) => oid))
    const isSure = (oid: number) => !unsure.has(oid) && partitions.some((partition) => partition.oid === oid)
    return { gone: [...carried.keys()].filter((oid) => !isSure(oid)), unsure }
  }

  /** What became of partitions that the catalog shows to be the same. */
  judge(name: string, look: PartitionLook): PartitionJudgement {
    const told = this.told(name)
    return this.judgeCarried(told, look) ?? this.judgeRefiled(told, look)
  }

  private judgeCarried({ carried, emptyAt }: Told, { came, lsn, now }: PartitionLook): string | null {
    const position = this.position()
    for (const oid of came) emptyAt.set(oid, lsn)
    for (const [oid, at] of carried) {
      const partition = now.find((one) => one.oid === oid)
      const emptyLsn = partition === undefined ? lsn : emptyAt.get(oid)
      if (emptyLsn !== undefined && at <= emptyLsn) {
        return partition === undefined
          ? 'a partition that is gone had rows'
          : `partition ${formatTableName(partition)} came, and had rows that are gone`
      }
      if (partition !== undefined) carried.delete(oid)
    }
    for (const [oid, at] of emptyAt) if (position !== null && at <= position) emptyAt.delete(oid)
    return null
  }

  /** Who truncates all partitions gives each another file. A later file of one by itself has another transaction in its row of `pg_class`. */
  private judgeRefiled({ emptiedBy, refiledAt }: Told, { lsn, refiled }: PartitionLook): PartitionJudgement {
    const position = this.position()
    let noticedLsn = 0n
    const doubtful = refiled.filter(({ changedBy }) => !emptiedBy.includes(changedBy))
    for (const { fileNode, oid } of doubtful) {
      const file = `${oid}/${fileNode}`
      if (!refiledAt.has(file)) refiledAt.set(file, lsn)
      noticedLsn = maxLsn(noticedLsn, refiledAt.get(file)!)
    }
    if (doubtful.length > 0 && position !== null && position < noticedLsn) return undefined
    if (doubtful.length > 0) return `partition ${formatTableName(doubtful[0])} was truncated or rewritten by itself`
    refiledAt.clear()
    return null
  }

  private told(name: string): Told {
    let told = this.tables.get(name)
    if (told === undefined) {
      told = { carried: new Map(), emptyAt: new Map(), refiledAt: new Map(), emptiedBy: [], copiedLsn: 0n }
      this.tables.set(name, told)
    }
    return told
  }
}
