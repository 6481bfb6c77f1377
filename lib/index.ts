/** The public surface of Spillway. */
export { ERRORS, type ErrorCode, SpillwayError, type SpillwayErrorDetails } from './errors.js';
export {
  type CommonOptions,
  type GroupStats,
  type OpenOptions,
  SocketGroup,
  type SocketStats,
} from './group/group.js';
export type { GroupOptions, OptionName, SelectorName } from './group/options.js';
export type { Endpoint } from './native.js';
export { Master, type MasterEvents } from './serve/master.js';
export type { MasterOptions, Output } from './serve/options.js';
export type { Worker, WorkerState } from './serve/worker.js';
