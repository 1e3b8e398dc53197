// A real nats-server, and clients of it: for the lines that are measured beside NATS.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { check } from './measure';
import type { Echoing, Sinking } from './sockets';

/** What is used of its client, the own types of which do not pass `exactOptionalPropertyTypes`. */
interface Client {
  connect(options: { servers: string }): Promise<NatsConnection>;
}

interface NatsConnection {
  publish(subject: string, payload: Uint8Array): void;
  request(subject: string, payload: Uint8Array | undefined, options: { timeout: number }): Promise<NatsMessage>;
  subscribe(subject: string, options: { callback: (error: Error | null, message: NatsMessage) => void }): void;
  flush(): Promise<void>;
  close(): Promise<void>;
}

interface NatsMessage {
  readonly data: Uint8Array;
  respond(payload: Uint8Array | string): void;
  string(): string;
}

const client = createRequire(__filename)('@nats-io/transport-node') as Client;

/** Subjects that a peer process answers on. */
const ECHO = 'echo';
const SINK = 'sink';
const COUNT = 'count';
/** As long as `call` waits for a reply. */
const REPLY = { timeout: 60_000 };

/** Why nothing can be measured beside NATS here; null when it can. */
export function natsMissing(): string | null {
  const { error } = spawnSync('nats-server', ['--version']);
  return error === undefined ? null : 'there is no nats-server on the PATH';
}

export interface NatsServer {
  address: string;
  end: () => Promise<void>;
}

/** A server of its own on a port that it chooses. */
export async function startNats(): Promise<NatsServer> {
  const server = spawn('nats-server', ['--addr', '127.0.0.1', '--port', '-1'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const kill = (): void => void server.kill();
  process.once('exit', kill);
  return {
    address: await listening(createInterface({ input: server.stderr })),
    end: async () => {
      process.off('exit', kill);
      const gone = once(server, 'exit');
      kill();
      await gone;
    },
  };
}

async function listening(log: AsyncIterable<string>): Promise<string> {
  for await (const line of log) {
    const address = /client connections on (\S+)/.exec(line)?.[1];
    if (address !== undefined) return address;
  }
  throw new Error('nats-server ended before it listened');
}

export async function natsConnection(address: string): Promise<NatsConnection> {
  return await client.connect({ servers: address });
}

/** In a peer process: echoes, and counts what it need not answer. */
export async function answerNats(address: string): Promise<void> {
  const connection = await natsConnection(address);
  let count = 0;
  const answer = (subject: string, callback: (message: NatsMessage) => void): void => {
    connection.subscribe(subject, {
      callback: (error, message) => {
        if (error !== null) throw error;
        callback(message);
      },
    });
  };
  answer(ECHO, (message) => {
    message.respond(message.data);
  });
  answer(SINK, () => {
    count += 1;
  });
  answer(COUNT, (message) => {
    message.respond(String(count));
  });
  await connection.flush();
}

export async function natsClient(address: string): Promise<Echoing> {
  const connection = await natsConnection(address);
  return {
    echo: async (payload, n) => {
      const replies = await Promise.all(Array.from({ length: n }, () => connection.request(ECHO, payload, REPLY)));
      for (const { data } of replies) check(data.length === payload.length, 'the echo has the same length');
    },
    end: () => connection.close(),
  };
}

export async function natsSink(address: string): Promise<Sinking> {
  const connection = await natsConnection(address);
  let total = 0;
  return {
    sink: async (payload, n) => {
      for (let i = 0; i < n; i += 1) connection.publish(SINK, payload);
      // Messages of one connection to another keep their order.
      const count = await connection.request(COUNT, undefined, REPLY);
      total += n;
      check(count.string() === String(total), 'all messages arrived');
    },
    end: () => connection.close(),
  };
}
