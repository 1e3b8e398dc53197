// Budgets 4, 5 and 6: `call` and `send` to a daemon in another process, 64 bytes. Beside `ws` and NATS each is shown; where
// there is a budget it is against one of the baselines. `send` has another one: half a million a second where a packed
// crossing between JavaScript and native code makes five millions.

import { check, rates, times, type Benchmark, type Line } from '../measure';
import { PAYLOAD, checkEcho } from '../local';
import { natsClient, natsMissing, natsSink, startNats } from '../nats';
import { crossPacked, endPacked, startPacked } from '../packed';
import { startPeers, type Mesh, type Peer } from '../peers';
import { netClient, webSocketClient, webSocketSink, type Echoing, type Sinking } from '../sockets';

const OUTSTANDING = 1000;
const MANY = Array.from({ length: OUTSTANDING }, () => PAYLOAD);

/** What ours is compared with. */
interface Baseline<Client> {
  reference: string;
  open: (peer: Peer) => Promise<Client>;
  missing?: Benchmark['missing'];
}

const NET: Baseline<Echoing> = { reference: 'node:net echo', open: ({ netPort }) => netClient(netPort) };
const WS: Baseline<Echoing> = { reference: 'ws echo', open: ({ wsPort }) => webSocketClient(wsPort) };
const WS_SINK: Baseline<Sinking> = {
  reference: 'ws, one way, one answer per 1 000',
  open: ({ wsPort }) => webSocketSink(wsPort),
};
const NATS: Baseline<Echoing> = {
  reference: 'nats request and reply',
  missing: natsMissing,
  open: (peer) => throughNats(peer, natsClient),
};
const NATS_SINK: Baseline<Sinking> = {
  reference: 'nats publish, one answer per 1 000',
  missing: natsMissing,
  open: (peer) => throughNats(peer, natsSink),
};

const CROSSING: Baseline<Sinking> = {
  reference: 'packed batches of 256 through native code',
  open: () => {
    startPacked();
    return Promise.resolve({
      sink: async (payload, n) => {
        let crossed = 0;
        await crossPacked(new Array<Buffer>(n).fill(payload), () => (crossed += 1));
        check(crossed === n, 'every payload crossed');
      },
      end: () => {
        endPacked();
        return Promise.resolve();
      },
    });
  },
};

export const calls: readonly Benchmark[] = [
  oneByOne(NET, { atMost: 2 }),
  oneByOne(WS, null),
  oneByOne(NATS, null),
  outstanding(WS, { atLeast: 5 }),
  outstanding(NATS, null),
  oneWay(WS_SINK, { atLeast: 10 }),
  oneWay(NATS_SINK, null),
  oneWay(CROSSING, { atLeast: 0.1 }),
];

function oneByOne(baseline: Baseline<Echoing>, limit: Benchmark['limit']): Benchmark {
  return compare('4 call to another process, one by one', baseline, limit, ({ runtime }, peer, other) =>
    times(
      async (n) => {
        for (let i = 0; i < n; i += 1) checkEcho(await runtime.call(peer.echo, PAYLOAD));
      },
      async (n) => {
        for (let i = 0; i < n; i += 1) await other.echo(PAYLOAD, 1);
      },
    ),
  );
}

function outstanding(baseline: Baseline<Echoing>, limit: Benchmark['limit']): Benchmark {
  return compare('5 call to another process, 1 000 outstanding', baseline, limit, ({ runtime }, peer, other) =>
    rates(
      async (n) => {
        for (let i = 0; i < n; i += 1) {
          (await Promise.all(MANY.map((payload) => runtime.call(peer.echo, payload)))).forEach(checkEcho);
        }
      },
      async (n) => {
        for (let i = 0; i < n; i += 1) await other.echo(PAYLOAD, OUTSTANDING);
      },
      '1000/s',
    ),
  );
}

function oneWay(baseline: Baseline<Sinking>, limit: Benchmark['limit']): Benchmark {
  return compare('6 send to another process, 1 000 outstanding', baseline, limit, ({ runtime }, peer, other) =>
    rates(
      async (n) => {
        for (let i = 0; i < n; i += 1) {
          // Each promise resolves when the other process has the event in the daemon's mailbox.
          const sent = await Promise.all(MANY.map((payload) => runtime.send(peer.echo, payload)));
          check(sent.length === OUTSTANDING, 'every event was sent');
        }
      },
      async (n) => {
        for (let i = 0; i < n; i += 1) await other.sink(PAYLOAD, OUTSTANDING);
      },
      '1000/s',
    ),
  );
}

function compare<Client extends { end: () => Promise<void> }>(
  name: string,
  { reference, open, missing }: Baseline<Client>,
  limit: Benchmark['limit'],
  measured: (mesh: Mesh, peer: Peer, other: Client) => Promise<Line>,
): Benchmark {
  const start = async (): Promise<Line> => {
    const mesh = await startPeers(1);
    const [peer] = mesh.peers;
    if (peer === undefined) throw new Error('there is no peer');
    const other = await open(peer);
    return {
      ...(await measured(mesh, peer, other)),
      end: async () => {
        await other.end();
        await mesh.end();
      },
    };
  };
  return { name, reference, limit, start, ...(missing === undefined ? {} : { missing }) };
}

/** A client of a nats-server that the peer answers at too. */
async function throughNats<Client extends { end: () => Promise<void> }>(
  peer: Peer,
  open: (address: string) => Promise<Client>,
): Promise<Client> {
  const server = await startNats();
  await peer.answerNats(server.address);
  const client = await open(server.address);
  return {
    ...client,
    end: async () => {
      await client.end();
      await server.end();
    },
  };
}
