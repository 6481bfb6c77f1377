/** How `spillway doctor` is called from where this program lies. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../native.js';

/** Where Spillway is installed; the hints of lib/errors.ts and lib/group/why.ts say it so. */
const INSTALLED = 'npx spillway doctor';

/** In a checkout npx makes the program executable first, which fails where the checkout belongs to another user. */
export function doctorCall(root = packageRoot): string {
  // The package leaves this file out.
  return existsSync(join(root, 'tsconfig.json')) ? 'npm run doctor' : INSTALLED;
}

/** An error's hint, with the doctor called as it can be called here. */
export function hintHere(hint: string, root = packageRoot): string {
  return hint.replaceAll(INSTALLED, doctorCall(root));
}
