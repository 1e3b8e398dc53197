// The part of the processes that are restarted: a node that hosts tallies, and hands them over when it is told to end.
//
// Standard input and output carry what is needed to meet on the mesh (see fleet.ts). The input ends when the first process
// does, however that dies; then there is nobody left to hand anything over for.

import { createInterface } from 'node:readline';
import { DaemonRuntime, Identity, MeshNode } from 'mesh-daemon';
import type { Card, Contact } from './fleet';
import { Tally } from './tally';

/** How long handing everything over may take. An orchestrator of containers usually waits 30 s behind its SIGTERM. */
const GRACE_MS = 20_000;

/** Joins the mesh with so many new tallies, and serves until SIGTERM or the end of the input. */
export async function serve(tallies: number): Promise<void> {
  // Ctrl-C reaches all processes of a terminal. The first one decides and then closes our input.
  process.on('SIGINT', () => undefined);

  const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const psk = await input.next();
  if (psk.done === true) return;
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: psk.value });
  const runtime = DaemonRuntime.create(mesh, { acceptMigrations: ({ kind }) => kind === Tally.kind });
  runtime.registerFactory(Tally.kind, () => new Tally());
  await mesh.start();
  runtime.start();

  process.once('SIGTERM', () => {
    void leave(mesh, runtime);
  });

  const handles = await Promise.all(
    Array.from({ length: tallies }, () => runtime.spawn(Tally.kind, Identity.generate())),
  );
  print({
    addr: mesh.localAddr(),
    publicKey: mesh.publicKey(),
    nodeId: String(mesh.nodeId()),
    tallies: handles.map(({ originHash }) => String(originHash)),
  } satisfies Card);

  for (let line = await input.next(); line.done !== true; line = await input.next()) {
    const { addr, publicKey } = JSON.parse(line.value) as Contact;
    await mesh.connect(addr, publicKey);
    print('connected');
  }
  await mesh.shutdown();
}

/** Moves every daemon to the other nodes, then ends. The exit status says whether all of them went. */
async function leave(mesh: MeshNode, runtime: DaemonRuntime): Promise<void> {
  const reports = await runtime.drain({ timeoutMs: GRACE_MS });
  const stayed = reports.filter(({ outcome }) => outcome !== 'target').length;
  await mesh.shutdown();
  process.exit(stayed === 0 ? 0 : 1);
}

function print(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
