/** Schema of the functions behind the event triggers. */
export const DDL_SCHEMA = 'moonlink'

/** Raised whenever installed triggers write what earlier readers would misread, or lack what later ones need. */
export const DDL_VERSION = 4

/** Function of the triggers that tell of truncations of single partitions. */
export const ON_TRUNCATE = `${DDL_SCHEMA}.on_truncate`

export const DDL_TRIGGERS = ['moonlink_ddl_command_end', 'moonlink_sql_drop', 'moonlink_table_rewrite'] as const

/** SQL: the transaction (`xid8`) that installed the event triggers last, from whose end on each change is told; null where they are not there. */
export const INSTALLED_BY = `(SELECT substring(obj_description(oid, 'pg_namespace') FROM 'since (\\d+)') FROM pg_namespace WHERE nspname = '${DDL_SCHEMA}')`

/** SQL: the same, and null too where a trigger is gone or disabled, or where a transaction is open that may have changed tables before they were there. */
export const TOLD_SINCE = `(SELECT installed.by FROM (SELECT ${INSTALLED_BY} AS by) installed
  WHERE pg_snapshot_xmin(pg_current_snapshot()) > installed.by::xid8 AND (SELECT count(*) = ${DDL_TRIGGERS.length} FROM pg_event_trigger
    WHERE evtname IN (${DDL_TRIGGERS.map((name) => `'${name}'`).join(', ')}) AND evtenabled IN ('O', 'A')))`

const EVENT_TRIGGERS = `(SELECT string_agg(xmin::text, ' ' ORDER BY oid) FROM pg_event_trigger WHERE evtname IN (${DDL_TRIGGERS.map((name) => `'${name}'`).join(', ')}))`
/** SQL: the version of the event triggers that were installed last; null where none are known of. */
export const INSTALLED_VERSION = `(SELECT substring(obj_description(oid, 'pg_namespace') FROM '^moonlink\\.ddl (\\d+)')::int FROM pg_namespace WHERE nspname = '${DDL_SCHEMA}')`
const AFTER_TRUNCATE = 32

/** SQL: oid of the function of triggers that tell of truncations; null where it is not there. */
export const ON_TRUNCATE_OID = `(SELECT f.oid FROM pg_proc f JOIN pg_namespace s ON s.oid = f.pronamespace WHERE s.nspname = '${DDL_SCHEMA}' AND f.proname = 'on_truncate' AND f.pronargs = 0)`

/**
 * SQL: the triggers, of the database and of relation `oid`, that tell where rows of it go, or come, that are not streamed; another text once one of them was altered or made anew,
 * be it for a moment. Null where nothing tells of it.
 */
export const rowsToldBySql = (
  oid: string,
) => `(SELECT ${TOLD_SINCE} || '/' || ${EVENT_TRIGGERS} || '/' || t.oid || ' ' || t.xmin FROM pg_trigger t
  WHERE t.tgrelid = ${oid} AND t.tgfoid = ${ON_TRUNCATE_OID} AND t.tgtype = ${AFTER_TRUNCATE} AND t.tgenabled = 'A' AND t.tgqual IS NULL AND ${INSTALLED_VERSION} = ${DDL_VERSION} LIMIT 1)`
