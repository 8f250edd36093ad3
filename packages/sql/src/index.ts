export { SqlEngine, type SqlEngineOptions, type SqlRequest } from './sql-engine.ts'
export type { QueryResult, ResultColumn } from './query-result.ts'
export type { Cell } from './cells.ts'
