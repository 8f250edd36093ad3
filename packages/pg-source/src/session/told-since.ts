/** Schema of the functions behind the event triggers. */
export const DDL_SCHEMA = 'moonlink'

export const DDL_TRIGGERS = ['moonlink_ddl_command_end', 'moonlink_sql_drop', 'moonlink_table_rewrite'] as const

/** SQL: the transaction (`xid8`) that installed the event triggers last, from whose end on each change is told; null where they are not there. */
export const INSTALLED_BY = `(SELECT substring(obj_description(oid, 'pg_namespace') FROM 'since (\\d+)') FROM pg_namespace WHERE nspname = '${DDL_SCHEMA}')`

/** SQL: the same, and null too where a trigger is gone or disabled, or where a transaction is open that may have changed tables before they were there. */
export const TOLD_SINCE = `(SELECT installed.by FROM (SELECT ${INSTALLED_BY} AS by) installed
  WHERE pg_snapshot_xmin(pg_current_snapshot()) > installed.by::xid8 AND (SELECT count(*) = ${DDL_TRIGGERS.length} FROM pg_event_trigger
    WHERE evtname IN (${DDL_TRIGGERS.map((name) => `'${name}'`).join(', ')}) AND evtenabled IN ('O', 'A')))`
