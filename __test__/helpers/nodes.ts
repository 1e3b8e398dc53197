// Nodes with runtimes for tests, and their end.

import { DaemonRuntime, MeshNode } from 'mesh-daemon';
import type { CausalEvent, DaemonRuntimeOptions, MeshDaemon, MeshNodeOptions } from 'mesh-daemon';

export const PSK = '11'.repeat(32);
const open = new Set<MeshNode>();

export interface Node {
  readonly mesh: MeshNode;
  readonly rt: DaemonRuntime;
  readonly id: bigint;
}

/** A started mesh without a runtime. */
export async function bare(options: Partial<MeshNodeOptions> = {}): Promise<MeshNode> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK, ...options });
  open.add(mesh);
  await mesh.start();
  return mesh;
}

/** A node whose runtime is ready. */
export async function node(
  options: DaemonRuntimeOptions = {},
  { start = true, mesh: meshOptions = {} }: { start?: boolean; mesh?: Partial<MeshNodeOptions> } = {},
): Promise<Node> {
  const mesh = await bare(meshOptions);
  const rt = DaemonRuntime.create(mesh, options);
  if (start) rt.start();
  return { mesh, rt, id: mesh.nodeId() };
}

/** Two connected nodes; the second accepts any daemon of a registered kind. */
export async function pair(first: DaemonRuntimeOptions = {}, second: DaemonRuntimeOptions = {}): Promise<[Node, Node]> {
  const nodes = await Promise.all([node(first), node({ acceptMigrations: true, ...second })]);
  await nodes[0].mesh.connect(nodes[1].mesh.localAddr());
  await nodes[1].mesh.accept(nodes[0].id);
  return nodes;
}

/** Ends everything that was made here. */
export async function closeAll(): Promise<void> {
  const meshes = [...open];
  open.clear();
  await Promise.all(meshes.map((mesh) => mesh.shutdown()));
}

/** Counts events; its whole state is the count. */
export class Counter implements MeshDaemon {
  seen = 0;

  process(event: CausalEvent): Buffer {
    this.seen += 1;
    return Buffer.from(`${String(this.seen)}:${event.payload.toString()}`);
  }

  snapshot(): Buffer {
    return Buffer.from(String(this.seen));
  }

  restore(state: Buffer): void {
    this.seen = Number(state.toString());
  }
}

/** Values from JavaScript that the types would not allow. */
export function any(value: unknown): never {
  return value as never;
}

/** What a promise rejected with. */
export async function failure(promise: Promise<unknown>): Promise<Error & Record<string, unknown>> {
  try {
    await promise;
  } catch (error) {
    return error as never;
  }
  throw new Error('it did not reject');
}

/** What a function threw. */
export function thrown(run: () => unknown): Error & Record<string, unknown> {
  try {
    run();
  } catch (error) {
    return error as never;
  }
  throw new Error('it did not throw');
}

/** A promise that is resolved from outside. */
export function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
