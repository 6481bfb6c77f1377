/** What the demo's program shows a browser. */

export interface PageFacts {
  worker: string;
  pid: number;
  /** Requests this worker has answered, this one included. */
  served: number;
  /** Milliseconds that every request blocks it. */
  slow: number;
}

/** A hue per worker, so that one sees at a glance that another one has answered. */
function hue(worker: string): number {
  // The golden angle keeps neighbours apart, however many there are.
  return Math.round((Number.parseInt(worker, 10) || 0) * 137.5 + 210) % 360;
}

export function page({ worker, pid, served, slow }: PageFacts): string {
  const pace = slow > 0 ? `I am slow at the moment: ${slow} ms for every request.` : 'I am quick.';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Worker ${worker}</title>
<link rel="icon" href="data:,">
<style>
  body { font: 18px/1.5 system-ui, sans-serif; margin: 0; min-height: 100vh; display: grid; place-items: center;
         color: hsl(${hue(worker)} 60% 20%); background: hsl(${hue(worker)} 70% 94%); }
  main { text-align: center; padding: 2rem; }
  h1 { font-size: 5rem; line-height: 1; margin: 0; }
  p { margin: .75rem 0; }
  a { color: inherit; }
</style>
<main>
  <p>You were answered by worker</p>
  <h1>${worker}</h1>
  <p>process ${pid}, request ${served}</p>
  <p>${pace}</p>
  <p><a href="">Ask again</a>: the kernel chooses anew, and passes by a worker whose queue is full.</p>
</main>
</html>
`;
}
