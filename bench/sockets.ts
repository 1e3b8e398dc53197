// Clients of the plain servers of a peer process.

import { once } from 'node:events';
import { connect } from 'node:net';
import WebSocket from 'ws';
import { check } from './measure';

export interface Echoing {
  /** Sends a payload `n` times and waits for all echoes. */
  echo(payload: Buffer, n: number): Promise<void>;
  end(): Promise<void>;
}

export async function netClient(port: number): Promise<Echoing> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  await once(socket, 'connect');
  let missing = 0;
  let done: () => void = () => undefined;
  socket.on('data', (data: Buffer) => {
    missing -= data.length;
    if (missing === 0) done();
  });
  return {
    echo: (payload, n) =>
      new Promise((resolve) => {
        missing = payload.length * n;
        done = resolve;
        for (let i = 0; i < n; i += 1) socket.write(payload);
      }),
    end: () => {
      socket.destroy();
      return Promise.resolve();
    },
  };
}

export async function webSocketClient(port: number): Promise<Echoing> {
  const socket = await open(port, '/');
  let missing = 0;
  let length = 0;
  let done: () => void = () => undefined;
  socket.on('message', (data: Buffer) => {
    check(data.length === length, 'the echo has the same length');
    missing -= 1;
    if (missing === 0) done();
  });
  return {
    echo: (payload, n) =>
      new Promise((resolve) => {
        missing = n;
        length = payload.length;
        done = resolve;
        for (let i = 0; i < n; i += 1) socket.send(payload);
      }),
    end: () => {
      socket.terminate();
      return Promise.resolve();
    },
  };
}

export interface Sinking {
  /** Sends a payload `n` times and waits until the other side says that it has all. */
  sink(payload: Buffer, n: number): Promise<void>;
  end(): Promise<void>;
}

export async function webSocketSink(port: number): Promise<Sinking> {
  const socket = await open(port, '/sink');
  let total = 0;
  return {
    sink: async (payload, n) => {
      for (let i = 0; i < n; i += 1) socket.send(payload);
      socket.send('how many?');
      const [count] = (await once(socket, 'message')) as [Buffer];
      total += n;
      check(Number(count.toString()) === total, 'all messages arrived');
    },
    end: () => {
      socket.terminate();
      return Promise.resolve();
    },
  };
}

async function open(port: number, path: string): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { perMessageDeflate: false });
  await once(socket, 'open');
  return socket;
}
