import { readFileSync } from 'node:fs';

/** The sum that a test run ends with. */
export class Tally {
  passed = 0;
  failed = 0;
  skipped = 0;

  add({ passed = 0, failed = 0, skipped = 0 }) {
    this.passed += passed;
    this.failed += failed;
    this.skipped += skipped;
  }

  toString() {
    const skipped = this.skipped > 0 ? `, ${this.skipped} skipped` : '';
    return `${this.passed} passed, ${this.failed} failed${skipped}`;
  }
}

/**
 * Reads what vitest's JSON reporter wrote and judges the run: `{ passed, failed, skipped, skippedNames, failures,
 * complaints }`. Each of `failures` is a failed test's name and the first line of what it said. Whatever went wrong without a failed test (a file that could not be loaded, a crash, an error outside of
 * every test) counts as one failure each and is named in `complaints`.
 */
export function readReport(file, status) {
  const result = { passed: 0, failed: 0, skipped: 0, skippedNames: [], failures: [], complaints: [] };
  const complain = (text) => {
    result.failed += 1;
    result.complaints.push(text);
  };

  let report;
  try {
    report = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    complain(`vitest ended with ${status} and left no report`);
    return result;
  }
  for (const { name, status: outcome, message, assertionResults } of report.testResults) {
    const failedBefore = result.failed;
    for (const test of assertionResults) {
      if (test.status === 'passed') {
        result.passed += 1;
      } else if (test.status === 'failed') {
        result.failed += 1;
        result.failures.push(`${test.fullName}: ${(test.failureMessages?.[0] ?? '').split('\n', 1)[0]}`);
      } else {
        result.skipped += 1;
        result.skippedNames.push(test.fullName);
      }
    }
    if (outcome === 'failed' && result.failed === failedBefore) {
      complain(`${name} failed outside of its tests${message ? `: ${message}` : ''}`);
    }
  }
  if (status !== 0 && result.failed === 0) {
    const ran = result.passed > 0 ? 'no test failed' : 'no test was executed';
    complain(`vitest ended with ${status}, and ${ran}`);
  }
  return result;
}
