// A node of a trial: hosts the daemon, drives its move, or calls it. Ends with the process that started it.

import { DaemonError, DaemonRuntime, Identity, MeshNode, MigrationError } from 'mesh-daemon';
import { Broadcast, CHANNEL } from './broadcast';
import { closeGate, census, openGate } from './hooks';
import { DUMP, Journal } from './journal';
import { Load } from './load';
import type { Commands, Ending, Remembered, Report, Setup } from './messages';

type Request = {
  [Name in keyof Commands]: { id: number; name: Name } & Omit<Commands[Name], 'result'>;
}[keyof Commands];

async function main(setup: Setup): Promise<void> {
  const mesh = await MeshNode.create({
    bindAddr: '127.0.0.1:0',
    psk: setup.psk,
    identitySeed: Buffer.from(setup.seed, 'hex'),
    heartbeatIntervalMs: 250,
    sessionTimeoutMs: 3_000,
  });
  const runtime = DaemonRuntime.create(mesh, {
    acceptMigrations: true,
    orchestrators: 'any',
    silenceMs: 2_000,
    handoverHoldMs: 8_000,
  });
  runtime.registerFactory(Journal.kind, () => new Journal(setup.journal, setup.name));
  await mesh.start();
  runtime.start();
  runtime.on('daemon', ({ type }) => {
    report({ type: 'daemon', event: type });
  });
  const load = new Load(runtime, (count) => {
    report({ type: 'answered', count });
  });

  const broadcast = new Broadcast(mesh);

  const answer = async (request: Request): Promise<unknown> => {
    switch (request.name) {
      case 'connect':
        return mesh.connect(request.addr);
      case 'spawn': {
        const identity = Identity.fromSeed(Buffer.from(request.identity, 'hex'));
        const daemon = new Journal(setup.journal, setup.name, request.ballast);
        return (await runtime.spawnWithDaemon(identity, daemon, { kind: Journal.kind })).originHash;
      }
      case 'gate':
        closeGate(runtime, request.message, (message) => {
          report({ type: 'reached', message });
        });
        return null;
      case 'open':
        openGate(runtime, request.message);
        return null;
      case 'migrate':
        void drive(runtime, request.origin, request.source, request.target).then((ending) => {
          report({ type: 'ended', ending });
        });
        return null;
      case 'recover':
        return recover(runtime, request.origin, request.patienceMs);
      case 'standing':
        return {
          ...census(runtime),
          daemons: runtime.daemonCount(),
          migrations: runtime.migrations().map(({ role, phase }) => `${role} in ${phase}`),
        };
      case 'load':
        load.start(request.origin);
        return null;
      case 'openChannel':
        broadcast.open();
        return null;
      case 'subscribe': {
        const options = request.inGroup ? { queueGroup: 'alone' } : {};
        await runtime.subscribeChannel(request.origin, request.publisher, CHANNEL, options);
        return null;
      }
      case 'publish':
        broadcast.start();
        return null;
      case 'settle': {
        const [emitted, published] = await Promise.all([
          load.settle(request.patienceMs),
          broadcast.settle(request.patienceMs),
        ]);
        return { emitted, published };
      }
      case 'dump':
        return dump(runtime, request.origin, request.patienceMs);
    }
  };

  process.on('message', (request: Request) => {
    answer(request).then(
      (result) => process.send?.({ id: request.id, result }),
      (error: unknown) => process.send?.({ id: request.id, error: String(error) }),
    );
  });
  process.on('disconnect', () => {
    process.exit();
  });
  report({ type: 'ready', addr: mesh.localAddr(), node: mesh.nodeId() });
}

// Whoever says it may know earlier than this node that the other host is gone.
async function recover(runtime: DaemonRuntime, origin: bigint, patienceMs: number): Promise<boolean> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    try {
      await runtime.recover(origin);
      return true;
    } catch (error) {
      if (error instanceof DaemonError && error.code === 'ERR_DAEMON_NOT_FOUND') return false;
      if (!(error instanceof MigrationError && error.kind === 'wrong-phase') || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function drive(runtime: DaemonRuntime, origin: bigint, source: bigint, target: bigint): Promise<Ending> {
  try {
    const move = await runtime.startMigration(origin, source, target);
    await move.wait();
    return { as: 'resolved' };
  } catch (error) {
    if (!(error instanceof MigrationError)) return { as: 'rejected', kind: String(error), outcome: 'none' };
    return { as: 'rejected', kind: error.kind, outcome: error.outcome };
  }
}

// The daemon may be on its way, or its host may have been lost just now.
async function dump(runtime: DaemonRuntime, origin: bigint, patienceMs: number): Promise<Remembered> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    try {
      const [output] = await runtime.call(origin, Buffer.from(DUMP), { timeoutMs: patienceMs });
      return JSON.parse(String(output)) as Remembered;
    } catch (error) {
      if (!(error instanceof DaemonError) || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function report(message: Report): void {
  process.send?.(message);
}

main(JSON.parse(process.argv[2] ?? '{}') as Setup).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
