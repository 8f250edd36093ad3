import { S3ObjectStore } from '@moonlink/object-store'

/** The S3 server of the tests, as the environment of a backend. */
export function s3Environment() {
  return {
    bucket: serverSetting('MOONLINK_TEST_S3_BUCKET'),
    env: {
      AWS_ENDPOINT_URL: serverSetting('MOONLINK_TEST_S3_ENDPOINT'),
      AWS_ACCESS_KEY_ID: serverSetting('MOONLINK_TEST_S3_ACCESS_KEY'),
      AWS_SECRET_ACCESS_KEY: serverSetting('MOONLINK_TEST_S3_SECRET_KEY'),
      AWS_REGION: 'us-east-1',
    },
  } as const
}

/** That server itself. */
export function openS3(): S3ObjectStore {
  const { AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL: endpoint, AWS_REGION: region, AWS_SECRET_ACCESS_KEY } = s3Environment().env
  return new S3ObjectStore({ endpoint, region, credentials: { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY } })
}

/** Of a server that tests need. */
export function serverSetting(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`set ${name}: this test needs that server`)
  return value
}
