export { Spool } from './spool.ts'
export { LocalSpoolFiles, type SpoolFiles } from './spool-files.ts'
export { LEAD_BYTES, type SpooledTransaction, type SpoolReader } from './spooled-transaction.ts'
