// npm run chaos -- [--trials N] [--seed S]: daemons move under load between processes of which some are killed, started
// again or stopped, and what every process did is held against what the package promises. 200 trials unless told otherwise;
// `--phases` runs fixed ones instead, at least one for each phase.
//
// One line for each trial; a failed one also prints everything that is known of it, and what follows goes on.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describe, planOf, planOfPhases } from './plan';
import { run, type Observed } from './trial';
import { faultsOf } from './verdict';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      trials: { type: 'string', default: '200' },
      seed: { type: 'string', default: '0' },
      phases: { type: 'boolean', default: false },
    },
  });
  // Gates need the build with test hooks; the children inherit its path.
  const hooks = join(__dirname, '..', '..', 'target', 'test-hooks');
  const binary = readdirSync(hooks).find((name) => name.endsWith('.node'));
  if (binary === undefined) throw new Error(`no addon in ${hooks}: run npm run build:debug`);
  process.env.MESH_DAEMON_NATIVE_PATH ??= join(hooks, binary);
  const [trials, seed] = [count('--trials', values.trials), count('--seed', values.seed)];
  const plans = values.phases ? planOfPhases() : Array.from({ length: trials }, (_, at) => planOf(seed + at));
  const begun = Date.now();
  let failed = 0;
  for (const plan of plans) {
    const start = Date.now();
    let faults: string[];
    let observed: Observed | undefined;
    try {
      observed = await run(plan);
      faults = faultsOf(observed);
    } catch (error) {
      faults = [error instanceof Error ? (error.stack ?? error.message) : String(error)];
    }
    const verdict = faults.length === 0 ? 'ok  ' : 'FAIL';
    console.log(`${verdict} ${describe(plan)} -> ${summary(observed)}, ${((Date.now() - start) / 1000).toFixed(1)} s`);
    if (faults.length > 0) {
      failed += 1;
      explain(faults, observed);
    }
  }
  console.log(`${plans.length} trials, ${failed} failed, ${Math.round((Date.now() - begun) / 1000)} s`);
  process.exitCode = failed === 0 ? 0 : 1;
}

function count(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`${name} must be a whole number, got ${text}`);
  return Number(text);
}

function summary(observed: Observed | undefined): string {
  if (observed === undefined) return 'it broke off';
  const { ending, journal, emitted, published, recovered } = observed;
  const end =
    ending === null ? 'driver died' : ending.as === 'resolved' ? 'moved' : `${ending.outcome} (${ending.kind})`;
  const lost = emitted.filter(({ fate }) => fate.as === 'failed').length;
  const taken = recovered ? ', taken over' : '';
  const ran = journal.filter(({ of }) => of === 'events').length;
  const unheard = published.filter(({ report }) => report.as !== 'told' || report.delivered === 0).length;
  const events = `${emitted.length} events, ${ran} ran, ${lost} lost`;
  return `${end}${taken}, ${events}, ${published.length} messages, ${journal.length - ran} ran, ${unheard} failed`;
}

function explain(faults: readonly string[], observed: Observed | undefined): void {
  for (const fault of faults.slice(0, 20)) console.log(`     ${fault}`);
  if (faults.length > 20) console.log(`     and ${faults.length - 20} more`);
  if (observed === undefined) return;
  const { plan: _, journal, emitted, published, standing, remembered, ...rest } = observed;
  console.log(`     ${JSON.stringify(rest)}`);
  console.log(`     standing ${JSON.stringify([...standing])}`);
  const ran = journal.map(({ of, number, node }) => `${of.slice(0, 1)}${number}${node.slice(0, 1)}`);
  console.log(`     ran ${ran.slice(-60).join(' ')}`);
  const fates = emitted.map(({ number, fate }) => {
    const what = fate.as === 'failed' ? `${fate.code}/${fate.executed ?? '-'}` : fate.as;
    return `${number} ${what}`;
  });
  console.log(`     fates ${fates.slice(-60).join(', ')}`);
  const reports = published.map(({ number, report }) => {
    const what = report.as === 'told' ? `${report.delivered}/${report.attempted} ${report.errors.join()}` : report.as;
    return `${number} ${what}`;
  });
  console.log(`     reports ${reports.slice(-60).join(', ')}`);
  if (typeof remembered === 'string') {
    console.log(`     remembered ${remembered}`);
    return;
  }
  const [events, messages] = [remembered.events.slice(-60), remembered.messages.slice(-60)];
  console.log(`     remembered ${events.join(' ')} and of the messages ${messages.join(' ')}`);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
