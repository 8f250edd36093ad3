export { withPostgres, type TestDatabase, type TestPostgres } from './postgres.ts'
