export { FileCatalog, type FileCatalogOptions } from './catalog/file-catalog.ts'
export { applyUpdates } from './metadata/apply-updates.ts'
export { newTableMetadata, type NewTable } from './metadata/new-table.ts'
export { schemaFromJson, schemaToJson } from './metadata/schema-json.ts'
