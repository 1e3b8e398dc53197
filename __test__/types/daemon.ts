// Type tests: daemons as users write them type-check; nothing here runs.

import {
  DaemonError,
  MeshNode,
  MigrationError,
  type CausalEvent,
  type DaemonContext,
  type DaemonFactory,
  type DaemonHostConfig,
  type MeshDaemon,
  type MigrationErrorKind,
  type MigrationOutcome,
  type PeerEvent,
} from 'mesh-daemon';

// A class with private state, everything inferred or narrower than the interface.
class Counter implements MeshDaemon {
  readonly name = 'counter';
  #seen = 0n;

  process(event: CausalEvent): Buffer {
    this.#seen += BigInt(event.payload.length);
    return Buffer.from(this.#seen.toString());
  }

  snapshot(): Buffer {
    return Buffer.from(this.#seen.toString());
  }

  restore(state: Buffer): void {
    this.#seen = BigInt(state.toString());
  }
}

// Async, several outputs, the context, and no state.
class Relay implements MeshDaemon {
  async process({ payload, channel }: CausalEvent, context: DaemonContext): Promise<readonly Uint8Array[]> {
    context.signal.throwIfAborted();
    channel satisfies string | null;
    const replies: Buffer[] = await context.call(7n, payload);
    await context.send(8n, new Uint8Array(2));
    return [...replies, context.sign(payload)];
  }
}

// Fewer parameters, nothing returned, null returned.
const silent: MeshDaemon = { process() {} };
const stateless: MeshDaemon = {
  process: async () => undefined,
  snapshot: () => null,
  onStop: (reason) => {
    reason satisfies 'stopped' | 'migrated' | 'fenced' | 'shutdown';
  },
};
const closures = ((state: number[]): MeshDaemon => ({
  process: ({ payload }) => {
    state.push(payload.length);
    return [Buffer.alloc(1), new Uint8Array(2)];
  },
}))([]);

const sync: DaemonFactory = () => new Counter();
const late: DaemonFactory = async ({ originHash, kind }) => (originHash > 0n && kind !== '' ? new Relay() : silent);
export const accepted = [stateless, closures, sync, late];

// @ts-expect-error `process` is required
const nothing: MeshDaemon = { snapshot: () => null };
// @ts-expect-error a string is no output
const text: MeshDaemon = { process: () => 'text' };
export const refused = [nothing, text];

const config: DaemonHostConfig = { autoSnapshotInterval: 10n, callbackTimeoutMs: 5, mailboxBytes: 1 };
// @ts-expect-error the interval is a bigint
config.autoSnapshotInterval = 10;
config.callbackTimeoutMs = 5n;

// Errors narrow.
declare const caught: unknown;
if (caught instanceof MigrationError) {
  caught satisfies DaemonError;
  caught.kind satisfies MigrationErrorKind;
  caught.outcome satisfies MigrationOutcome;
  caught.attempts satisfies number | undefined;
}
new DaemonError('m', { code: 'ERR_DAEMON_NOT_READY', cause: caught });
// @ts-expect-error no such code
new DaemonError('m', { code: 'ERR_DAEMON_NO_SUCH' });

// Emitters are typed.
declare const mesh: MeshNode;
mesh.on('peer', (event) => {
  event satisfies PeerEvent;
});
// @ts-expect-error no such event
mesh.on('pear', () => {});
export const connected = mesh.connect('a:1', undefined, 7n, {
  signal: AbortSignal.timeout(5),
}) satisfies Promise<bigint>;
export const created = MeshNode.create({
  bindAddr: '127.0.0.1:0',
  psk: new Uint8Array(32),
}) satisfies Promise<MeshNode>;

export async function disposal(): Promise<void> {
  await using node = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: 'ab' });
  node.nodeId() satisfies bigint;
}
