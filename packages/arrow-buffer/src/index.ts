export { CommitMarkList } from './commit-marks.ts'
export { NO_ROW_ID, RowBuffer, type FilledCells } from './row-buffer.ts'
export { toArrowField, toArrowType, toIpcStream, toRecordBatch } from './arrow.ts'
