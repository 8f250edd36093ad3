/** The S3 server of the tests, as the environment of a backend. */
export function s3Environment(): { readonly bucket: string; readonly env: Readonly<Record<string, string>> } {
  return {
    bucket: setting('MOONLINK_TEST_S3_BUCKET'),
    env: {
      AWS_ENDPOINT_URL: setting('MOONLINK_TEST_S3_ENDPOINT'),
      AWS_ACCESS_KEY_ID: setting('MOONLINK_TEST_S3_ACCESS_KEY'),
      AWS_SECRET_ACCESS_KEY: setting('MOONLINK_TEST_S3_SECRET_KEY'),
      AWS_REGION: 'us-east-1',
    },
  }
}

function setting(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`set ${name}: this test needs an S3 server`)
  return value
}
