import * as fc from 'fast-check'

/** Properties are tried with other cases each time where people work, and with the same ones in CI, where a change must not fail by chance. */
if (process.env['CI']) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: 20_261_128 })
