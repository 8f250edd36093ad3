/** An answer that is none of S3's: a proxy's page, an error behind a status of success, half of one. What was asked for may have happened; the same request is sent again. */
export class OddAnswer extends Error {
  /** `what`: such as `an answer without an ETag`. */
  constructor(what: string) {
    super(what)
    this.name = 'OddAnswer'
  }
}
