import { DDL_SCHEMA, ON_TRUNCATE } from './told-since.ts'

const TRIGGER = 'moonlink_truncate'
/** How long each partition is waited for, with who writes to it waiting behind. */
const LOCK_TIMEOUT_MS = 2000

const LEAF = `c.relispartition AND c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'`
const WATCHED = `pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = '${ON_TRUNCATE}'::regproc`

/** SQL that counts partitions, and those of which a trigger tells where they are truncated. None of them does where the function is not there. */
export const watchedPartitionsSql = `SELECT count(*)::int AS partitions, (count(*) FILTER (WHERE EXISTS (
  SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = to_regproc('${ON_TRUNCATE}') AND t.tgenabled = 'A')))::int AS watched
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${LEAF}`

/**
 * SQL that lets the event triggers also keep a trigger on each partition, which writes into the stream where that is truncated by itself. After `ddlInstallSql`; what
 * partitions there are by then get theirs by `watchPartitionsSql`.
 */
export const ddlPartitionsSql = `-- All of them fire where a table is truncated; whoever reads that leaves out what is empty already.
CREATE OR REPLACE FUNCTION ${ON_TRUNCATE}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $moonlink$
BEGIN
  PERFORM ${DDL_SCHEMA}.write_rows(tg_relid, 'truncated by itself');
  RETURN NULL;
END $moonlink$;

-- Makes the trigger of those partitions among tables that have none, and drops that of tables that are none any more. Returns how many can't be locked now;
-- waits for them where wait is empty, and has triggers fire again there that somebody has disabled.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.watch_partitions(tables oid[], wait text) RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $moonlink$
DECLARE
  leaf record;
  failed int := 0;
BEGIN
  FOR leaf IN
    SELECT c.oid::regclass AS name, NULL::name AS trigger, true AS is_partition FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = ANY (tables) AND ${LEAF} AND NOT EXISTS (SELECT FROM ${WATCHED})
    UNION ALL SELECT c.oid::regclass, t.tgname, c.relispartition FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
      WHERE t.tgfoid = '${ON_TRUNCATE}'::regproc AND (NOT c.relispartition OR (wait = '' AND t.tgenabled <> 'A' AND c.oid = ANY (tables)))
  LOOP
    BEGIN
      EXECUTE format('LOCK TABLE ONLY %s IN %s MODE %s', leaf.name, CASE WHEN leaf.is_partition THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END, wait);
      IF NOT leaf.is_partition THEN
        EXECUTE format('DROP TRIGGER %I ON %s', leaf.trigger, leaf.name);
      ELSE
        IF leaf.trigger IS NULL THEN
          EXECUTE format('CREATE TRIGGER ${TRIGGER} AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION ${ON_TRUNCATE}()', leaf.name);
        END IF;
        -- Whatever session_replication_role is.
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', leaf.name, coalesce(leaf.trigger, '${TRIGGER}'));
      END IF;
    EXCEPTION WHEN OTHERS THEN
      failed := failed + 1;
      IF wait = '' THEN RAISE WARNING 'moonlink: %: %', leaf.name, SQLERRM; END IF;
    END;
  END LOOP;
  RETURN failed;
END $moonlink$;

REVOKE ALL ON FUNCTION ${ON_TRUNCATE}(), ${DDL_SCHEMA}.watch_partitions(oid[], text) FROM PUBLIC;
`

/** A statement by itself that commits after each partition that `which` selects as `c`, so that none stays locked while another is waited for. */
const eachPartition = (which: string, body: string) => `DO $moonlink$
DECLARE
  leaf regclass;
  failed int := 0;
BEGIN
  FOREACH leaf IN ARRAY array(SELECT c.oid FROM ${which} ORDER BY c.oid) LOOP
    PERFORM set_config('lock_timeout', '${LOCK_TIMEOUT_MS}ms', true);
    ${body}
    COMMIT;
  END LOOP;
  IF failed > 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = format('%s partitions could not be altered; the others are done. Run it again', failed);
  END IF;
END $moonlink$;
`

/**
 * SQL, a statement by itself and outside of any transaction, that gives each partition its trigger; after `ddlPartitionsSql`. Each takes a lock for a moment that keeps writers
 * out. Fails with `lock_not_available` in the end where some could not be had.
 */
export const watchPartitionsSql = eachPartition(
  `pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${LEAF} AND NOT EXISTS (SELECT FROM ${WATCHED} AND t.tgenabled = 'A')`,
  `failed := failed + ${DDL_SCHEMA}.watch_partitions(array[leaf::oid], '');`,
)

/** SQL, likewise a statement by itself, that takes them back; before `ddlUninstallSql`, which would lock all of them at once. */
export const unwatchPartitionsSql = eachPartition(
  `pg_class c WHERE EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = to_regproc('${ON_TRUNCATE}'))`,
  `BEGIN
      EXECUTE (SELECT format('DROP TRIGGER %I ON %s', t.tgname, leaf) FROM pg_trigger t WHERE t.tgrelid = leaf AND t.tgfoid = to_regproc('${ON_TRUNCATE}') LIMIT 1);
    EXCEPTION WHEN OTHERS THEN
      failed := failed + 1;
      RAISE WARNING 'moonlink: %: %', leaf, SQLERRM;
    END;`,
)
