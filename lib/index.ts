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
export { Master, type MasterEvents, serve } from './serve/master.js';
export type { MasterOptions, Output, WorkerChange } from './serve/options.js';
export type { DrainReason } from './serve/protocol.js';
export type { MasterState, MasterStatus, PortStatus, SocketStatus, WorkerStatus } from './serve/status.js';
export type { Worker, WorkerState } from './serve/worker-process.js';
export { type SpillwayWorker, worker } from './worker.js';
