export { RestCatalog } from './rest-catalog.ts'
export type { RestCatalogOptions } from './options.ts'
