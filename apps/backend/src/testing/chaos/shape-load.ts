import type { Client } from 'pg'

export const shapesTable = `CREATE TABLE shapes (id bigserial PRIMARY KEY, name text NOT NULL, n int)`

/** Transactions between two changes of the shape. */
const ROUNDS_A_SHAPE = 60

/** Columns come, are renamed and widened, and go again; no name comes twice. */
function change(step: number): string {
  const column = Math.floor(step / 6)
  const changes = [
    `ADD COLUMN extra${column} text DEFAULT 'before'`,
    `RENAME COLUMN extra${column} TO kept${column}`,
    `ADD COLUMN number${column} int`,
    `ALTER COLUMN number${column} TYPE bigint`,
    `DROP COLUMN kept${column}`,
    `RENAME COLUMN number${column} TO count${column}`,
  ]
  return `ALTER TABLE shapes ${changes[step % changes.length]}`
}

/** One transaction on a table whose shape changes now and then, in the midst of a transaction that also writes to it. */
export async function writeShapes(client: Client, round: number): Promise<void> {
  await client.query('BEGIN')
  await client.query(`INSERT INTO shapes (name, n) SELECT 's' || g, g FROM generate_series(1, 5) g`)
  if (round % ROUNDS_A_SHAPE === ROUNDS_A_SHAPE - 1) await client.query(change(Math.floor(round / ROUNDS_A_SHAPE)))
  await client.query(`UPDATE shapes SET n = n + 1 WHERE id % 23 = ${round % 23}`)
  await client.query(`DELETE FROM shapes WHERE id IN (SELECT id FROM shapes ORDER BY id LIMIT ${round % 6})`)
  await client.query(round % 11 === 10 ? 'ROLLBACK' : 'COMMIT')
}
