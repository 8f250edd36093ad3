import { ATTACHED, PARTITION, shapeTypesSql, TOLD_SHAPE } from './relation-shape.ts'
import { DDL_SCHEMA, DDL_TRIGGERS, DDL_VERSION, ON_TRUNCATE } from './told-since.ts'

/** Prefix of the logical messages that say how tables changed. */
export const DDL_PREFIX = 'moonlink.ddl'

const VALUES_AS_TEXT = `SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET bytea_output = 'hex'
  SET extra_float_digits = 3 SET timezone = 'UTC'`

/** What changes tables, their columns and their types. Indexes by themselves change no row. */
const TAGS = [
  'ALTER TABLE',
  'CREATE TABLE',
  'CREATE TABLE AS',
  'SELECT INTO',
  'ALTER TYPE',
  'ALTER DOMAIN',
  'ALTER SCHEMA',
  'ALTER EXTENSION',
  'CREATE EXTENSION',
]

/**
 * A message is given the place of what follows it in the log, which another subtransaction may have too, and then they come in any order
 * (`logicalmsg_decode` takes the record's end). So each is followed by one that says nothing.
 */
export const SEAL = `PERFORM pg_logical_emit_message(true, 'moonlink', '');`

/**
 * Who says it, and what they could see. Transactions that change a type lock none of the tables that use it, so neither of two that are open at once sees what
 * the other does; and one that is not READ COMMITTED does not even see what was committed before it got its locks.
 */
const TELLER = `'version', ${DDL_VERSION}, 'xid', pg_current_xact_id()::text, 'snapshot', pg_current_snapshot()::text, 'sinceLsn', since_lsn,
    'isFresh', current_setting('transaction_isolation') LIKE 'read %'`

/** How a function whose own work fails still says that something happened: the reader then compares the tables. */
const OR_SAY_SO = `EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'moonlink: a change of tables is not described: %', SQLERRM;
  PERFORM pg_logical_emit_message(true, '${DDL_PREFIX}', jsonb_build_object('version', ${DDL_VERSION}, 'kind', 'unknown', 'reason', SQLERRM)::text);
  ${SEAL}
END`

/**
 * SQL that makes the event triggers which write each change of a table's shape into the stream, in its place within its transaction. For a superuser,
 * or whoever may make event triggers. Running it again brings older ones up to date. It changes nothing else.
 */
export const ddlInstallSql = `CREATE SCHEMA IF NOT EXISTS ${DDL_SCHEMA};

-- Types and tables as they are now, in the place of the transaction where this is called.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.write_shapes(tables oid[], types oid[]) RETURNS void LANGUAGE plpgsql ${VALUES_AS_TEXT} AS $moonlink$
DECLARE
  rewrites jsonb := coalesce(nullif(current_setting('moonlink.rewrites', true), ''), '{}')::jsonb;
  since_lsn pg_lsn := pg_current_wal_insert_lsn();
BEGIN
  -- Each statement sees what has committed by then.
  PERFORM pg_logical_emit_message(true, '${DDL_PREFIX}', jsonb_build_object(${TELLER}, 'kind', 'types', 'altered', to_jsonb(types::int8[]),
    'types', coalesce((${shapeTypesSql('SELECT unnest(types)')}), '[]'))::text)
  WHERE cardinality(types) > 0;
  PERFORM pg_logical_emit_message(true, '${DDL_PREFIX}', jsonb_build_object(${TELLER}, 'kind', 'shape', 'rewrite', coalesce(rewrites -> c.oid::text,
      -- A partitioned table is rewritten where its partitions are; values computed anew in one of them are told before others.
      (WITH ${PARTITION} SELECT rewrites -> oid::text FROM partition WHERE rewrites ? oid::text ORDER BY rewrites -> oid::text ->> 'isPlain' LIMIT 1)),
    'relation', ${TOLD_SHAPE})::text)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid = ANY (tables) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> '${DDL_SCHEMA}'
  ORDER BY c.oid;
  ${SEAL}
  IF rewrites <> '{}' THEN
    PERFORM set_config('moonlink.rewrites', (rewrites - array(SELECT t::text FROM unnest(tables) t))::text, true);
  END IF;
END $moonlink$;

-- Which partitions the tables have now that are at the top of these; all that have some, where none is given: what is gone does not say whose it was.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.write_partitions(command text, tables oid[]) RETURNS void LANGUAGE plpgsql ${VALUES_AS_TEXT} AS $moonlink$
DECLARE
  partitions jsonb;
BEGIN
  SELECT jsonb_object_agg(c.oid::text, ${ATTACHED}) FROM pg_class c
  WHERE c.relkind = 'p' AND c.relpersistence <> 't' AND (tables IS NULL OR c.oid IN (SELECT a.relid FROM unnest(tables) t, pg_partition_ancestors(t) a)) INTO partitions;
  IF partitions IS NOT NULL THEN
    PERFORM pg_logical_emit_message(true, '${DDL_PREFIX}',
      jsonb_build_object('version', ${DDL_VERSION}, 'kind', 'partitions', 'command', command, 'tables', partitions)::text);
    ${SEAL}
  END IF;
END $moonlink$;

-- Rows of a partition go, or come, that are not streamed.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.write_rows(rewritten oid, what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $moonlink$
BEGIN
  PERFORM pg_logical_emit_message(true, '${DDL_PREFIX}', jsonb_build_object('version', ${DDL_VERSION}, 'kind', 'rows', 'reason',
    format('partition %s was %s', rewritten::regclass, what), 'above', array(SELECT a.relid::oid::int8 FROM pg_partition_ancestors(rewritten) a WHERE a.relid <> rewritten))::text)
  FROM pg_class WHERE oid = rewritten AND relispartition;
  ${SEAL}
END $moonlink$;

CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.on_ddl_command_end() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER ${VALUES_AS_TEXT} AS $moonlink$
DECLARE
  calls text;
  rewritten oid;
  tables oid[];
  types oid[];
BEGIN
  GET DIAGNOSTICS calls = PG_CONTEXT;
  -- What watch_partitions does itself is no change.
  IF strpos(calls, '${DDL_SCHEMA}.watch_partitions(') > 0 THEN RETURN; END IF;
  -- A partition by itself: SET LOGGED, SET EXPRESSION.
  FOR rewritten IN SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass
    AND coalesce(nullif(current_setting('moonlink.rewrites', true), ''), '{}')::jsonb ? objid::text
  LOOP
    PERFORM ${DDL_SCHEMA}.write_rows(rewritten, 'rewritten by itself');
  END LOOP;
  WITH RECURSIVE command AS (
    SELECT classid, objid FROM pg_event_trigger_ddl_commands() WHERE coalesce(schema_name, '') !~ '^pg_'),
  -- Of the types that rows of tables have, the tables tell.
  altered(oid) AS (
    SELECT objid FROM command WHERE classid = 'pg_type'::regclass
    UNION SELECT c.reltype FROM command JOIN pg_class c ON c.oid = objid WHERE classid = 'pg_class'::regclass AND c.relkind = 'c'
    UNION SELECT t.oid FROM command JOIN pg_type t ON t.typnamespace = objid LEFT JOIN pg_class c ON c.oid = t.typrelid
      WHERE classid = 'pg_namespace'::regclass AND t.typtype IN ('c', 'd', 'e', 'm', 'r') AND coalesce(c.relkind, 'c') = 'c'),
  changed(oid) AS (
    SELECT objid FROM command WHERE classid = 'pg_class'::regclass
    UNION SELECT c.oid FROM altered JOIN pg_class c ON c.reloftype = altered.oid
    UNION SELECT c.oid FROM command JOIN pg_class c ON c.relnamespace = command.objid WHERE classid = 'pg_namespace'::regclass
    UNION SELECT i.inhrelid FROM changed JOIN pg_inherits i ON i.inhparent = changed.oid)
  SELECT array(SELECT DISTINCT oid FROM changed), array(SELECT DISTINCT oid FROM altered) INTO tables, types;
  PERFORM ${DDL_SCHEMA}.write_shapes(tables, types);
  PERFORM ${DDL_SCHEMA}.write_partitions(tg_tag, tables);
  IF to_regproc('${DDL_SCHEMA}.watch_partitions') IS NOT NULL THEN
    PERFORM ${DDL_SCHEMA}.watch_partitions(tables, 'NOWAIT');
  END IF;
${OR_SAY_SO} $moonlink$;

CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.on_sql_drop() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER ${VALUES_AS_TEXT} AS $moonlink$
DECLARE
  tables oid[];
BEGIN
  PERFORM pg_logical_emit_message(true, '${DDL_PREFIX}', jsonb_build_object('version', ${DDL_VERSION}, 'kind', 'dropped', 'oid', objid::int8)::text)
  FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table' AND NOT is_temporary AND schema_name !~ '^pg_';
  -- Columns that went with their type, and tables whose rows nothing names any more: an index that is gone does not say whose it was.
  SELECT array(
    SELECT objid FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table column' AND NOT is_temporary
    UNION SELECT c.oid FROM pg_event_trigger_dropped_objects() d JOIN pg_namespace n ON n.nspname = d.schema_name JOIN pg_class c ON c.relnamespace = n.oid
      WHERE d.object_type = 'index' AND c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
  ) INTO tables;
  PERFORM ${DDL_SCHEMA}.write_shapes(tables, '{}');
  IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table' AND NOT is_temporary) THEN
    PERFORM ${DDL_SCHEMA}.write_partitions(tg_tag, NULL);
  END IF;
${OR_SAY_SO} $moonlink$;

-- Before the rewrite; what ends the command tells of it. Where it was called from, and with what words, tells whether values were computed anew.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.on_table_rewrite() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER ${VALUES_AS_TEXT} AS $moonlink$
DECLARE
  calls text;
BEGIN
  GET DIAGNOSTICS calls = PG_CONTEXT;
  PERFORM set_config('moonlink.rewrites', (coalesce(nullif(current_setting('moonlink.rewrites', true), ''), '{}')::jsonb || jsonb_build_object(
    pg_event_trigger_table_rewrite_oid()::text, jsonb_build_object('reason', pg_event_trigger_table_rewrite_reason(),
      'isPlain', strpos(calls, E'\\n') = 0 AND current_query() ~* 'alter' AND current_query() !~* 'using')))::text, true);
${OR_SAY_SO} $moonlink$;

REVOKE ALL ON FUNCTION ${DDL_SCHEMA}.write_shapes(oid[], oid[]), ${DDL_SCHEMA}.write_partitions(text, oid[]), ${DDL_SCHEMA}.write_rows(oid, text),
  ${DDL_SCHEMA}.on_ddl_command_end(), ${DDL_SCHEMA}.on_sql_drop(), ${DDL_SCHEMA}.on_table_rewrite() FROM PUBLIC;

-- Of an earlier version.
DROP FUNCTION IF EXISTS ${DDL_SCHEMA}.write_shapes(oid[]);
DROP EVENT TRIGGER IF EXISTS moonlink_ddl_command_end;
DROP EVENT TRIGGER IF EXISTS moonlink_sql_drop;
DROP EVENT TRIGGER IF EXISTS moonlink_table_rewrite;
CREATE EVENT TRIGGER moonlink_ddl_command_end ON ddl_command_end WHEN TAG IN (${TAGS.map((tag) => `'${tag}'`).join(', ')})
  EXECUTE FUNCTION ${DDL_SCHEMA}.on_ddl_command_end();
CREATE EVENT TRIGGER moonlink_sql_drop ON sql_drop EXECUTE FUNCTION ${DDL_SCHEMA}.on_sql_drop();
CREATE EVENT TRIGGER moonlink_table_rewrite ON table_rewrite EXECUTE FUNCTION ${DDL_SCHEMA}.on_table_rewrite();
-- Whatever session_replication_role is.
${DDL_TRIGGERS.map((name) => `ALTER EVENT TRIGGER ${name} ENABLE ALWAYS;`).join('\n')}
-- From here on, nothing goes untold.
DO $$ BEGIN EXECUTE format('COMMENT ON SCHEMA ${DDL_SCHEMA} IS %L',
  'moonlink.ddl ${DDL_VERSION}: tells mirrors of schema changes, since ' || pg_current_xact_id() || '. Removed by: moonlink ddl uninstall'); END $$;
`

/** The event triggers that `ddlInstallSql` makes, as far as they are there. */
export const ddlTriggersSql = `SELECT FROM pg_event_trigger WHERE evtname IN (${DDL_TRIGGERS.map((name) => `'${name}'`).join(', ')})`

/** SQL that takes back what `ddlInstallSql` made. */
export const ddlUninstallSql = `DROP EVENT TRIGGER IF EXISTS moonlink_ddl_command_end;
DROP EVENT TRIGGER IF EXISTS moonlink_sql_drop;
DROP EVENT TRIGGER IF EXISTS moonlink_table_rewrite;
DROP FUNCTION IF EXISTS ${DDL_SCHEMA}.on_ddl_command_end(), ${DDL_SCHEMA}.on_sql_drop(), ${DDL_SCHEMA}.on_table_rewrite(),
  ${DDL_SCHEMA}.write_shapes(oid[]), ${DDL_SCHEMA}.write_shapes(oid[], oid[]), ${DDL_SCHEMA}.write_partitions(text, oid[]),
  ${DDL_SCHEMA}.watch_partitions(oid[], text);
-- With the triggers of partitions that have it.
DROP FUNCTION IF EXISTS ${ON_TRUNCATE}() CASCADE;
DROP FUNCTION IF EXISTS ${DDL_SCHEMA}.write_rows(oid, text);
-- Restricted: objects of others in it stay.
DROP SCHEMA IF EXISTS ${DDL_SCHEMA} RESTRICT;
`
