// A wire between two nodes that can be cut and mended, and stopped for a while.

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { once } from 'node:events';

const open = new Set<Wire>();

/** Ends all wires. */
export function closeWires(): void {
  for (const wire of open) wire.close();
}

/** Passes on what is sent to its address. */
export class Wire {
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  #cut = false;

  private constructor(to: string) {
    const at = to.lastIndexOf(':');
    this.#server = createServer((near) => {
      if (this.#cut) {
        near.destroy();
        return;
      }
      const far = connect(Number(to.slice(at + 1)), to.slice(0, at));
      for (const [from, into] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from);
        from.on('error', () => undefined);
        from.on('close', () => {
          this.#sockets.delete(from);
          into.destroy();
        });
        from.pipe(into);
      }
    });
    open.add(this);
  }

  /** A wire to this address. */
  static async to(address: string): Promise<Wire> {
    const wire = new Wire(address);
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    return wire;
  }

  get address(): string {
    return `127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  /** Breaks the connections, and every one that is tried. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#cut = false;
  }

  /** Passes on nothing, of either side, until it is released. */
  hold(): void {
    for (const socket of this.#sockets) socket.cork();
  }

  release(): void {
    for (const socket of this.#sockets) socket.uncork();
  }

  close(): void {
    this.cut();
    this.#server.close();
    open.delete(this);
  }
}
