// One trial: a daemon moves under load, somebody dies or is stopped, and what is left is looked at.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readJournal, type Entry } from './journal';
import type { Emitted, Ending, Published, Remembered, Standing } from './messages';
import { holderOf, type Fault, type Plan } from './plan';
import { Member } from './processes';

/** What the verdict is found on. */
export interface Observed {
  readonly plan: Plan;
  /** How the move ended for its driver; null when that died. */
  readonly ending: Ending | null;
  /** Whether the move was over before the fault. */
  readonly overBefore: boolean;
  /** Whether the message to be held came at all. */
  readonly held: boolean;
  /** Of processes that were started again, the first one counts here. */
  readonly sourceAlive: boolean;
  readonly targetAlive: boolean;
  readonly driverAlive: boolean;
  /** Whether the source was told to take the daemon over. */
  readonly recovered: boolean;
  readonly emitted: readonly Emitted[];
  readonly published: readonly Published[];
  readonly journal: readonly Entry[];
  /** What the daemon remembers; the reason when it does not answer. */
  readonly remembered: Remembered | string;
  readonly standing: ReadonlyMap<string, Standing>;
}

/** How long a driver may take to learn what became of its move. */
const ENDING_MS = 40_000;
/** How long the daemon may take to be reachable again, and leftovers to go. */
const RECOVERY_MS = 25_000;
/** How long callers may wait at most. */
const SETTLE_MS = 70_000;

/** Does what the plan says. */
export async function run(plan: Plan): Promise<Observed> {
  const folder = mkdtempSync(join(tmpdir(), 'mesh-daemon-chaos-'));
  const members: Member[] = [];
  try {
    return await runIn(folder, plan, members);
  } finally {
    await Promise.all(members.map((member) => member.kill()));
    rmSync(folder, { recursive: true });
  }
}

async function runIn(folder: string, plan: Plan, members: Member[]): Promise<Observed> {
  const [psk, journal] = [randomBytes(32).toString('hex'), join(folder, 'journal')];
  const start = async (name: string): Promise<Member> => {
    const member = await Member.start(name, psk, journal);
    members.push(member);
    return member;
  };
  const names = ['source', 'target', 'client', ...(plan.driver === 'third' ? ['third'] : [])];
  const [source, target, client, third] = (await Promise.all(names.map(start))) as [Member, Member, Member, Member?];
  const driver = { source, target, third: third ?? source }[plan.driver];
  const byRole = { source, target, orchestrator: driver };

  await source.ask('connect', { addr: target.address.addr });
  for (const member of [client, third]) {
    if (member === undefined) continue;
    for (const host of [source, target]) await member.ask('connect', { addr: host.address.addr });
  }
  const origin = await source.ask('spawn', { identity: randomBytes(32).toString('hex'), ballast: plan.ballast });
  await client.ask('openChannel', {});
  await source.ask('subscribe', { origin, publisher: client.address.node, inGroup: plan.inGroup });
  await client.ask('publish', {});
  await client.ask('load', { origin });
  await client.report('answered', ANSWERED_MS, ({ count }) => count >= 50);

  const victims = plan.victims.map((role) => byRole[role]);
  const { moment } = plan;
  const holder = moment.as === 'gate' ? byRole[moment.holder] : undefined;
  if (moment.as === 'gate') await holder?.ask('gate', { message: moment.message });
  await driver.ask('migrate', { origin, source: source.address.node, target: target.address.node });
  let held = false;
  if (moment.as === 'gate' && holder !== undefined) {
    const reached = holder.report('reached', ENDING_MS);
    held = (await Promise.race([reached, driver.report('ended', ENDING_MS)]))?.type === 'reached';
    await sleep(moment.lateMs);
  } else if (moment.as === 'instant') {
    await sleep(moment.afterMs);
  }
  const overBefore = driver.ending !== undefined;
  await strike(plan.fault, victims, members);
  // What was held arrives at last, behind the fault.
  if (moment.as === 'gate' && holder?.alive === true) await holder.ask('open', { message: moment.message });

  const ended = await driver.report('ended', ENDING_MS);
  const recovered = await recover(plan, origin, source, target, ended?.ending);
  let remembered: Remembered | string = 'nobody has it';
  if (await awaitRest(members)) {
    remembered = await dump(client, origin);
    // It is whole only when it goes on.
    if (typeof remembered !== 'string') await sleep(150);
  }
  const { emitted, published } = await client.ask('settle', { patienceMs: SETTLE_MS }, SETTLE_MS);
  if (typeof remembered !== 'string') remembered = await dump(client, origin);
  await awaitRest(members);
  const standing = new Map<string, Standing>();
  for (const member of members) if (member.alive) standing.set(member.name, await member.ask('standing', {}));
  return {
    plan,
    ending: ended?.ending ?? null,
    overBefore,
    held,
    sourceAlive: source.alive,
    targetAlive: target.alive,
    driverAlive: driver.alive,
    recovered,
    emitted,
    published,
    journal: readJournal(journal),
    remembered,
    standing,
  };
}

const ANSWERED_MS = 30_000;

async function strike(fault: Fault, victims: readonly Member[], members: Member[]): Promise<void> {
  if (fault.as === 'stop') {
    for (const victim of victims) victim.signal('SIGSTOP');
    await sleep(fault.forMs);
    for (const victim of victims) victim.signal('SIGCONT');
    return;
  }
  await Promise.all(victims.map((victim) => victim.kill()));
  if (fault.as === 'kill') return;
  await sleep(fault.afterMs);
  for (const victim of victims) {
    const next = await victim.again();
    for (const member of members) {
      if (member.alive) await next.ask('connect', { addr: member.address.addr });
    }
    members.push(next);
  }
}

/**
 * Where the target died, the source may hold the daemon in doubt; then somebody who knows says so. When the driver died
 * with the target, the source's own view tells. A target that started again says so itself.
 */
async function recover(
  plan: Plan,
  origin: bigint,
  source: Member,
  target: Member,
  ending: Ending | undefined,
): Promise<boolean> {
  if (!source.alive || target.alive || plan.fault.as === 'restart') return false;
  let inDoubt = ending?.as === 'rejected' && ending.outcome === 'unknown';
  if (ending === undefined && holderOf('orchestrator', plan.driver) === 'target') {
    const deadline = Date.now() + 10_000;
    do {
      inDoubt = (await source.ask('standing', {})).migrations.length > 0;
      if (inDoubt) await sleep(200);
    } while (inDoubt && Date.now() < deadline);
  }
  return inDoubt && (await source.ask('recover', { origin, patienceMs: RECOVERY_MS }, RECOVERY_MS));
}

/** Waits until no move is left anywhere; whether some living node has the daemon. */
async function awaitRest(members: readonly Member[]): Promise<boolean> {
  const deadline = Date.now() + RECOVERY_MS;
  for (;;) {
    const standings = await Promise.all(
      members.filter((member) => member.alive).map((member) => member.ask('standing', {})),
    );
    const busy = standings.some(({ migrations }) => migrations.length > 0);
    if (!busy || Date.now() > deadline) return standings.some(({ daemons }) => daemons > 0);
    await sleep(100);
  }
}

async function dump(client: Member, origin: bigint): Promise<Remembered | string> {
  try {
    return await client.ask('dump', { origin, patienceMs: RECOVERY_MS }, RECOVERY_MS);
  } catch (error) {
    return String(error);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
