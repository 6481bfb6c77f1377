/** The commands, each in a file that is loaded when it is asked for: most of them need next to nothing. */
import type { Command } from 'commander';

/** In the order of the help. */
export const VERBS: Readonly<Record<string, () => Promise<Command>>> = {
  start: async () => (await import('./start.js')).startCommand(),
  init: async () => (await import('./init.js')).initCommand(),
  status: async () => (await import('./status.js')).statusCommand(),
  reload: async () => (await import('./reload.js')).reloadCommand(),
  scale: async () => (await import('./scale.js')).scaleCommand(),
  restart: async () => (await import('./restart.js')).restartCommand(),
  stop: async () => (await import('./stop.js')).stopCommand(),
  logs: async () => (await import('./logs.js')).logsCommand(),
  demo: async () => (await import('./demo.js')).demoCommand(),
  doctor: async () => (await import('./doctor.js')).doctorCommand(),
};
