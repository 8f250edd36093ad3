/** Every metric that the backend exposes: the one list that code, docs and tests share. Prometheus adds `_bucket`, `_sum` and `_count` to histograms. */
export interface Metric {
  readonly name: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[]
}

const table = ['table']
const latency = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

/** Counted and observed where things happen. */
export const eventMetrics: readonly Metric[] = [
  {
    name: 'moonlink_freshness_seconds',
    kind: 'histogram',
    help: 'From the commit in Postgres to when reads show it, for the newest transaction of each step. Compares two clocks.',
    labels: [],
    buckets: latency,
  },
  { name: 'moonlink_changes_total', kind: 'counter', help: 'Inserts, updates and deletes applied.', labels: table },
  { name: 'moonlink_copied_rows_total', kind: 'counter', help: 'Rows read by copies and re-synchronisations.', labels: table },
  {
    name: 'moonlink_commit_phase_seconds',
    kind: 'histogram',
    help: 'Phases of an Iceberg commit: write (Parquet and key index), commit (vectors, manifests, catalog).',
    labels: ['table', 'phase'],
    buckets: latency,
  },
  {
    name: 'moonlink_commits_total',
    kind: 'counter',
    help: 'Iceberg commits, by kind: flush, compaction, copy.',
    labels: ['table', 'kind'],
  },
  { name: 'moonlink_flushed_rows_total', kind: 'counter', help: 'Rows written by flushes.', labels: table },
  {
    name: 'moonlink_backpressure_seconds_total',
    kind: 'counter',
    help: 'Time the source was made to wait because memory was near its limit.',
    labels: [],
  },
  {
    name: 'moonlink_stream_opens_total',
    kind: 'counter',
    help: 'Times the change stream was opened; more than one means it was lost.',
    labels: [],
  },
  {
    name: 'moonlink_slot_losses_total',
    kind: 'counter',
    help: 'Times that the slot was found lost, or without changes that were needed, so that every table is compared with the source.',
    labels: [],
  },
  {
    name: 'moonlink_errors_total',
    kind: 'counter',
    help: 'Errors, by where they came up, kind and code.',
    labels: ['where', 'kind', 'code'],
  },
  {
    name: 'moonlink_verify_seconds',
    kind: 'histogram',
    help: 'Comparisons of a table with the source.',
    labels: table,
    buckets: [0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14_400],
  },
  { name: 'moonlink_query_seconds', kind: 'histogram', help: 'SQL queries, until their first rows.', labels: [], buckets: latency },
]

/** Read from the status at each scrape. */
export const stateMetrics = [
  { name: 'moonlink_up', kind: 'gauge', help: '1 where the change stream is open; a standby has none.', labels: [] },
  { name: 'moonlink_standby', kind: 'gauge', help: '1 where the backend waits for its turn as a standby, 0 where it mirrors.', labels: [] },
  { name: 'moonlink_source_lsn_bytes', kind: 'gauge', help: 'How far the source has come, as a byte position in its log.', labels: [] },
  { name: 'moonlink_slot_confirmed_lsn_bytes', kind: 'gauge', help: 'What the slot has been told it may forget.', labels: [] },
  { name: 'moonlink_slot_retained_bytes', kind: 'gauge', help: 'Write-ahead log that the slot makes the source keep.', labels: [] },
  {
    name: 'moonlink_slot_lag_seconds',
    kind: 'gauge',
    help: 'Age of the oldest write-ahead log that the slot has not been told to forget.',
    labels: [],
  },
  {
    name: 'moonlink_source_waits',
    kind: 'gauge',
    help: 'What waits for other transactions of the source: copies, comparisons, a new slot. `moonlink status` names the transactions.',
    labels: [],
  },
  {
    name: 'moonlink_slot_headroom_bytes',
    kind: 'gauge',
    help: 'Log that may still be written before the server drops what the slot needs; absent where max_slot_wal_keep_size sets no limit.',
    labels: [],
  },
  {
    name: 'moonlink_table_state',
    kind: 'gauge',
    help: '1 for the state the table is in: copying, streaming, paused, failed.',
    labels: ['table', 'state'],
  },
  { name: 'moonlink_table_rows', kind: 'gauge', help: 'Rows that a read sees; while copying, rows copied so far.', labels: table },
  { name: 'moonlink_table_applied_lsn_bytes', kind: 'gauge', help: 'Reads cover every change up to here.', labels: table },
  { name: 'moonlink_table_durable_lsn_bytes', kind: 'gauge', help: 'Up to here nothing is lost if the process dies.', labels: table },
  { name: 'moonlink_table_committed_lsn_bytes', kind: 'gauge', help: 'Iceberg covers every change up to here.', labels: table },
  {
    name: 'moonlink_table_lag_bytes',
    kind: 'gauge',
    help: 'Log between what the source has committed and what reads show.',
    labels: table,
  },
  {
    name: 'moonlink_table_lag_seconds',
    kind: 'gauge',
    help: 'For how long reads have been behind the source; 0 when they are not.',
    labels: table,
  },
  { name: 'moonlink_table_memory_bytes', kind: 'gauge', help: 'Memory that rows, indexes and deletes of the table take.', labels: table },
  {
    name: 'moonlink_table_spooled_bytes',
    kind: 'gauge',
    help: 'Bytes of changes of the table that wait on local disk for its copy.',
    labels: table,
  },
  { name: 'moonlink_table_memory_rows', kind: 'gauge', help: 'Rows in memory.', labels: table },
  { name: 'moonlink_table_data_files', kind: 'gauge', help: 'Data files of the current snapshot.', labels: table },
  { name: 'moonlink_table_deletion_vectors', kind: 'gauge', help: 'Data files with deleted rows.', labels: table },
  {
    name: 'moonlink_table_copy_ratio',
    kind: 'gauge',
    help: 'Share of the initial copy that is done; absent when not copying.',
    labels: table,
  },
  {
    name: 'moonlink_table_copy_bytes',
    kind: 'gauge',
    help: 'Bytes of the table in the source that its copy has read; absent when not copying.',
    labels: table,
  },
  {
    name: 'moonlink_table_copy_total_bytes',
    kind: 'gauge',
    help: 'Bytes of the table in the source that its copy reads; absent when not copying.',
    labels: table,
  },
  {
    name: 'moonlink_table_copy_left_seconds',
    kind: 'gauge',
    help: 'Time that the copy still takes at its present pace; absent when not copying or not known.',
    labels: table,
  },
  {
    name: 'moonlink_table_verified',
    kind: 'gauge',
    help: 'Last comparison with the source: 1 equal, 0 different, -1 failed; absent where there was none.',
    labels: table,
  },
  {
    name: 'moonlink_table_verified_timestamp_seconds',
    kind: 'gauge',
    help: 'When that comparison ended, seconds since 1970.',
    labels: table,
  },
  {
    name: 'moonlink_verify_share',
    kind: 'gauge',
    help: 'Share of the time for comparing tables with the source (verify.share); 0: only on request.',
    labels: [],
  },
  {
    name: 'moonlink_table_unfit_values',
    kind: 'gauge',
    help: 'Values that the Iceberg type could not hold and that are null, or text in a second column, since the start.',
    labels: table,
  },
  { name: 'moonlink_change_log_bytes', kind: 'gauge', help: 'Size of the change log; absent where there is none.', labels: [] },
  { name: 'moonlink_change_log_limit_bytes', kind: 'gauge', help: 'The configured bound (changeLog.maxBytes).', labels: [] },
  {
    name: 'moonlink_change_log_stopped',
    kind: 'gauge',
    help: '1 while nothing is logged, so that the slot keeps what comes; else 0.',
    labels: [],
  },
  { name: 'moonlink_memory_bytes', kind: 'gauge', help: 'Memory that all tables take; kept below the limit.', labels: [] },
  { name: 'moonlink_memory_limit_bytes', kind: 'gauge', help: 'The configured limit (memory.limitBytes).', labels: [] },
] as const satisfies readonly Metric[]

export type StateMetricName = (typeof stateMetrics)[number]['name']
