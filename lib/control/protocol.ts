/** What is said on the control socket; docs/control.md tells it to people. */
import type { MasterStatus } from '../serve/status.js';

/** In front of every path. A change that an older client would misunderstand gets another number. */
export const VERSION = '/v1';

/** How many lines `GET /v1/logs` gives without being asked for a number, and how many can be asked for. */
export const LINES = 15;
export const MOST_LINES = 999_999;

/** One line of a worker's output, as the last of them are kept. */
export interface OutputLine {
  /** Milliseconds since 1970 at which it was read. */
  time: number;
  slot: number;
  stream: 'stdout' | 'stderr';
  text: string;
}

/** What `GET /v1/logs` may say between the lines: so many were left out, because the reader was too slow. */
export interface LinesDropped {
  dropped: number;
}

/** What a master runs from. */
export interface Installation {
  /** The path of Node. */
  node: string;
  /** The path of the program `spillway`. */
  main: string;
  /** A checksum of what the files were as the master started: their sizes and times. */
  files: string;
}

export interface ServiceStatus extends MasterStatus {
  name: string;
  /** The version of Spillway that runs. */
  version: string;
  /** Where it was started from. */
  installation: Installation;
  /** Whether another master would go on, should this one end (`--monitor`, or the descriptor store of systemd). */
  kept: boolean;
  /** What the workers run. */
  program: string;
  /** The config file it was started with; null without one. */
  config: string | null;
  /** The folder of log files; null when the output goes to the master's own. */
  logs: string | null;
  /** Lines of output that could not be written, since the start. */
  droppedLines: number;
}

export interface ReloadResult {
  reloaded: true;
  /** Workers that serve now. */
  workers: number;
  /** Milliseconds it took. */
  after: number;
  /** Keys of the config file whose new value comes into force with a restart of the master only. */
  needRestart: string[];
}

export interface RestartResult {
  restarted: true;
  workers: number;
  after: number;
}

export interface ScaleResult {
  from: number;
  to: number;
  after: number;
}

export interface StopResult {
  stopped: true;
  /** Of the master, which ends after this answer. */
  pid: number;
  after: number;
}

export interface UpgradeResult {
  /** Of the master, which ends after this answer; the next one goes on. */
  pid: number;
}

export interface ReopenResult {
  reopened: number;
}

/** What a refused or failed request is answered with. */
export interface Failure {
  error: { code: string; message: string; hint: string };
}

/** How many workers: a number, or so many more or fewer. */
export type ScaleTo = { workers: number } | { by: number };

/** What a master does for its control socket. Every method may throw a SpillwayError, which the client gets. */
export interface Controlled {
  status(): Promise<ServiceStatus>;
  reload(options: { together: boolean }): Promise<ReloadResult>;
  restart(): Promise<RestartResult>;
  scale(to: ScaleTo): Promise<ScaleResult>;
  stop(): Promise<StopResult>;
  upgrade(): Promise<UpgradeResult>;
  reopen(): Promise<ReopenResult>;
  readonly lines: LineSource;
}

export interface LineSource {
  /** The last lines that are kept, oldest first. */
  recent(most: number, slot: number | undefined): OutputLine[];
  /** Calls for every further line until the returned function is called. */
  follow(listener: (line: OutputLine) => void): () => void;
}
