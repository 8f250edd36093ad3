/** What a backend reaches the outside by. */
export type PortName = 'store' | 'catalog' | 'logDisk' | 'state' | 'source'

/** Puts something around a port: tests make it fail there. */
export type WrapPort = <Port extends object>(name: PortName, port: Port) => Port

export const asItIs: WrapPort = (_name, port) => port
