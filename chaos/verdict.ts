// Whether what was observed keeps the promises: once, in order, one answer; one copy; a failed move costs nothing.

import type { Entry } from './journal';
import type { Emitted, Published, Remembered } from './messages';
import type { Point } from './plan';
import type { Observed } from './trial';

/** Everything that is wrong; nothing when all promises were kept. */
export function faultsOf(observed: Observed): string[] {
  return [
    ...onceAndInOrder('events', observed.emitted.length, linesOf('events', observed)),
    ...livesOf('messages', observed).flatMap((lines) => onceAndInOrder('messages', observed.published.length, lines)),
    ...oneAnswerEach(observed),
    ...oneReportEach(observed),
    ...nothingForgotten('events', observed),
    ...nothingForgotten('messages', observed),
    ...oneCopy(observed),
    ...rightOutcome(observed),
  ];
}

/** Whether a process died that may have owned the daemon. */
function hostDied({ sourceAlive, targetAlive }: Observed): boolean {
  return !sourceAlive || !targetAlive;
}

/** Whether the daemon's owner lived, and was in everybody's reach, all the time. */
function ownerStayed(observed: Observed): boolean {
  const { plan, ending, sourceAlive, overBefore } = observed;
  if (plan.fault.as === 'stop') return plan.fault.forMs <= 1_000;
  if (!hostDied(observed)) return true;
  const stayed = ending?.as === 'rejected' && ending.outcome === 'source';
  // Where the target started again, the source may have begun a new life of the daemon, and then says the same.
  const handedOver = plan.fault.as === 'restart' && !(heldAt(observed)?.released === false);
  return sourceAlive && stayed && !overBefore && !handedOver;
}

/** The step at which the fault came, where that is known. */
function heldAt({ plan: { moment }, held, overBefore }: Observed): Point | null {
  return moment.as === 'gate' && held && !overBefore ? moment : null;
}

/** Whether the daemon lives on a node. */
function livesOn(name: string, { standing }: Observed): boolean {
  return (standing.get(name)?.daemons ?? 0) > 0;
}

/**
 * Whether a source that was left alone had to go on by itself, because its target showed that it had begun a new life before
 * the source had let go.
 */
function goesOn(observed: Observed): boolean {
  const { plan, ending, sourceAlive, targetAlive } = observed;
  if (plan.fault.as !== 'restart' || !sourceAlive || targetAlive || ending?.as === 'resolved') return false;
  const point = heldAt(observed);
  // What says that the target is live may be taken just before the source hears of the new life: then it has let go.
  return point !== null && point.message !== 'ActivateAck' && point.message !== 'CleanupComplete';
}

function linesOf(of: keyof Remembered, { journal }: Observed): Entry[] {
  return journal.filter((line) => line.of === of);
}

/** Whether a copy goes on from where it was frozen: what the lost target ran is forgotten. */
function takenOver(observed: Observed): boolean {
  return !observed.targetAlive && livesOn('source', observed);
}

/** What each life of the daemon went through: what a lost one took, and had yet to acknowledge, is sent to the next one too. */
function livesOf(of: keyof Remembered, observed: Observed): Entry[][] {
  const lines = linesOf(of, observed);
  if (!takenOver(observed)) return [lines];
  const lost = lines.findLastIndex(({ node }) => node === 'target');
  return [lines.slice(0, lost + 1), lines.filter(({ node }) => node !== 'target')];
}

// The file is in the order of time, whichever node wrote: so one ascending sequence says it all.
function onceAndInOrder(of: keyof Remembered, begun: number, lines: Entry[]): string[] {
  const faults: string[] = [];
  let last = 0;
  for (const { number, node } of lines) {
    if (number <= last) faults.push(`${of}: ${number} ran on ${node} after ${last}`);
    if (number > begun) faults.push(`${of}: ${number} ran, which nobody began`);
    last = Math.max(last, number);
  }
  return faults;
}

function oneAnswerEach(observed: Observed): string[] {
  const faults: string[] = [];
  const ran = new Set(linesOf('events', observed).map(({ number }) => number));
  const stayed = ownerStayed(observed);
  // Of events that were entered together and failed, it is the first failure that is told: then some did not run, if that did not.
  const missed = new Set(observed.emitted.filter(({ number }) => !ran.has(number)).map(({ first }) => first));
  for (const event of observed.emitted) {
    const asTold = event.fate.as === 'failed' ? !missed.has(event.first) : ran.has(event.number);
    const fault = answerFault(event, asTold, stayed, hostDied(observed));
    if (fault !== null) faults.push(`${event.by} ${event.number}: ${fault}`);
  }
  return faults;
}

function oneReportEach(observed: Observed): string[] {
  const ran = new Set(linesOf('messages', observed).map(({ number }) => number));
  const [stayed, died] = [ownerStayed(observed), hostDied(observed)];
  return observed.published.flatMap((message) => {
    const fault = reportFault(message, ran.has(message.number), stayed, died);
    return fault === null ? [] : [`message ${message.number}: ${fault}`];
  });
}

function reportFault({ report }: Published, ran: boolean, stayed: boolean, hostDied: boolean): string | null {
  switch (report.as) {
    case 'waiting':
      return 'never reported';
    case 'rejected':
      return `was not published: ${report.error}`;
    case 'told':
      if (report.delivered > 0 && !ran && !hostDied) return 'reported as delivered and never ran';
      if (report.delivered + report.errors.length !== report.attempted)
        return `has the report ${JSON.stringify(report)}`;
      if (stayed && report.delivered !== 1) return `failed (${report.errors.join()}) although its subscriber lived`;
      return null;
  }
}

// A copy that was taken over begins where it was frozen: what the lost target ran is forgotten, and nothing else ever is.
function nothingForgotten(of: keyof Remembered, observed: Observed): string[] {
  if (typeof observed.remembered === 'string') return [];
  const faults: string[] = [];
  const [lines, remembered] = [linesOf(of, observed), observed.remembered[of]];
  const [ran, kept] = [new Set(lines.map(({ number }) => number)), new Set(remembered)];
  for (const number of remembered) if (!ran.has(number)) faults.push(`${of}: ${number} is remembered and never ran`);
  const goesOnFromFrozen = takenOver(observed);
  for (const { number, node } of lines) {
    if (!kept.has(number) && !(goesOnFromFrozen && node === 'target'))
      faults.push(`${of}: ${number} ran on ${node} and is forgotten`);
  }
  return faults;
}

function answerFault({ number, fate }: Emitted, ran: boolean, stayed: boolean, hostDied: boolean): string | null {
  switch (fate.as) {
    case 'waiting':
      return 'never answered';
    case 'answered':
      if (!ran) return 'answered and never ran';
      return fate.output.startsWith(`${number}:`) ? null : `has the answer ${fate.output}`;
    case 'accepted':
      return ran || hostDied ? null : 'accepted and never ran';
    case 'failed':
      if (stayed) return `failed with ${fate.code} although its host lived`;
      if (ran && fate.executed === 'no') return 'ran, and its caller was told that it did not';
      if (fate.code === 'ERR_DAEMON_PEER_LOST') return fate.executed === null ? 'nobody says whether it ran' : null;
      if (fate.code === 'ERR_DAEMON_NOT_FOUND') return ran ? 'ran, and was said not to be found' : null;
      return `failed with ${fate.code}`;
  }
}

function oneCopy(observed: Observed): string[] {
  const faults: string[] = [];
  const { standing, remembered, recovered } = observed;
  let copies = 0;
  for (const [name, { daemons, migrations, arrivingBytes }] of standing) {
    copies += daemons;
    if (migrations.length > 0) faults.push(`${name} is left ${migrations.join(', ')}`);
    if (arrivingBytes > 0) faults.push(`${name} is left with ${arrivingBytes} bytes of a state`);
  }
  if (copies > 1) faults.push(`${copies} copies live`);
  if (copies === 1 && typeof remembered === 'string') {
    faults.push(`a copy lives and does not answer: ${remembered}`);
  }
  const mustLive = !hostDied(observed) || ownerStayed(observed) || recovered || goesOn(observed);
  if (mustLive && copies === 0) faults.push('the daemon is gone');
  return faults;
}

function rightOutcome(observed: Observed): string[] {
  const { plan, ending, driverAlive, sourceAlive, targetAlive, overBefore } = observed;
  if (ending === null) return driverAlive ? ['the handle never ended'] : [];
  const on = (name: string): boolean => livesOn(name, observed);
  if (ending.as === 'resolved') {
    return targetAlive && !on('target') ? ['the move completed, and the target does not have the daemon'] : [];
  }
  const faults: string[] = [];
  const { outcome, kind } = ending;
  const say = (what: string): void => void faults.push(`outcome ${outcome} (${kind}), but ${what}`);
  switch (outcome) {
    case 'source':
      if (!sourceAlive && !overBefore) say('the source died');
      else if (sourceAlive && !on('source')) say('the source does not have the daemon');
      break;
    case 'target':
      if (targetAlive && !on('target')) say('the target does not have the daemon');
      break;
    case 'lost':
      if (sourceAlive) say('the source lives');
      if (on('target')) say('the target has the daemon');
      break;
    case 'unknown':
      // Nobody is in doubt while both can be asked.
      if (plan.fault.as !== 'stop' && sourceAlive && targetAlive) say('both hosts live');
      break;
    default:
      say('that is no outcome');
  }
  // The row of the table, where the step is known and the target alone died.
  const point = heldAt(observed);
  if (point !== null && sourceAlive && !targetAlive) {
    // A target that starts again ends the doubt, before or behind the word of it.
    const doubt = plan.fault.as === 'restart' ? ['unknown', 'source'] : ['unknown'];
    const expected = point.released ? doubt : ['source'];
    if (!expected.includes(outcome)) say(`it was ${point.released ? '' : 'not '}handed over`);
  }
  return faults;
}
