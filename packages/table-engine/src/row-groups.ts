/** Rows of a row group of data files: as many as DuckDB holds in a group of a table in memory, so that what it reads beside a file keeps in step with it. */
export const GROUP_ROWS = 122_880
