import { randomBytes } from 'node:crypto'
import { describeCatalog } from '@moonlink/testkit'
import { RestCatalog } from './rest-catalog.ts'

describeCatalog('RestCatalog over a server', async () => {
  const uri = process.env['MOONLINK_TEST_REST_URI']
  if (!uri) throw new Error('set MOONLINK_TEST_REST_URI to the base URI of an Iceberg REST catalog, such as http://127.0.0.1:8181')
  const warehouse = process.env['MOONLINK_TEST_REST_WAREHOUSE']
  return {
    catalog: new RestCatalog({ uri, ...(warehouse ? { warehouse } : {}) }),
    namespacePrefix: `moonlink${randomBytes(4).toString('hex')}`,
  }
})
