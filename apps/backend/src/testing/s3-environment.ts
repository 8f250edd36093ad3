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

/** Of a server that tests need. */
export function serverSetting(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`set ${name}: this test needs that server`)
  return value
}
