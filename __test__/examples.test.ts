// The examples as a reader runs them: compiled programs, real processes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

const root = join(__dirname, '..');

/** A running program, its output line by line. */
function start(program: string, args: string[] = [], env: NodeJS.ProcessEnv = {}, detached = false) {
  const child = spawn(process.execPath, [join(root, 'build', 'examples', program), ...args], {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    detached,
  });
  const lines: string[] = [];
  const stdout = createInterface({ input: child.stdout });
  stdout.on('line', (line) => lines.push(line));
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  // Children of the program share its stderr, so `close` comes when all of them are gone.
  const closed = once(child, 'close').then(([status, signal]) => ({
    status: status as number | null,
    signal: signal as string | null,
    lines,
    errors,
  }));
  /** The first line, past or to come, that matches. */
  const line = async (pattern: RegExp): Promise<string> => {
    for (;;) {
      const found = lines.find((text) => pattern.test(text));
      if (found !== undefined) return found;
      const ended = await Promise.race([once(stdout, 'line').then(() => undefined), closed]);
      if (ended !== undefined) throw new Error(`ended without ${pattern.source}: ${JSON.stringify(ended)}`);
    }
  };
  return { child, closed, line, say: (text: string) => child.stdin.write(`${text}\n`) };
}

async function outputOf(program: string, args: string[] = []): Promise<string[]> {
  const ended = await start(program, args).closed;
  expect(ended).toMatchObject({ status: 0, errors: '' });
  return ended.lines;
}

test('echo answers', async () => {
  await expect(outputOf('echo/main.js')).resolves.toEqual(['Is anybody there?']);
});

test('counter goes on from its snapshot', async () => {
  await expect(outputOf('counter/main.js')).resolves.toEqual([
    '+ 1 = 1',
    '+ 20 = 21',
    '+ 300 = 321',
    'stopped with a snapshot; 0 daemons live here',
    'restored, + 4000 = 4321',
  ]);
});

test('the move of the README moves', async () => {
  const lines = await outputOf('counter/move.js');
  expect(lines.slice(-3)).toEqual(['complete', '42, counted by the other node', 'daemons on a: 0, on b: 1']);
});

test('a rolling restart fails no call', async () => {
  const lines = await outputOf('rolling-restart/main.js', ['0.2']);
  const [, calls = '0'] = /^(\d+) calls of 24 daemons, 0 failed/.exec(lines.at(-1) ?? '') ?? [];
  expect(Number(calls)).toBeGreaterThan(24);
  expect(lines).toHaveLength(4);
}, 120_000);

test('the code of the README is the code of the examples', () => {
  const blocks = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/```ts\n\/\/ (examples\/\S+)\n(.*?)```/gs)];
  expect(blocks).toHaveLength(2);
  for (const [, file = '', code = ''] of blocks) {
    const flat = (text: string): string => text.replaceAll(/^ +/gm, '').trim();
    expect(flat(readFileSync(join(root, file), 'utf8'))).toContain(flat(code));
  }
});

test('chat: what one process says, the other one shows', async () => {
  const alice = start('chat/main.js', ['Alice']);
  const [, psk = '', addr = '', room = ''] =
    /^CHAT_PSK=(\S+) .* NAME (\S+) (\d+)$/.exec(await alice.line(/^CHAT_PSK=/)) ?? [];
  await alice.line(/^\* Alice came in \(1 here\)$/);
  const bob = start('chat/main.js', ['Bob', addr, room], { CHAT_PSK: psk });
  await Promise.all([alice, bob].map(({ line }) => line(/^\* Bob came in \(2 here\)$/)));
  bob.say('hello');
  await Promise.all([alice, bob].map(({ line }) => line(/^Bob: hello$/)));
  alice.say('good day');
  await Promise.all([alice, bob].map(({ line }) => line(/^Alice: good day$/)));

  bob.child.stdin.end();
  await expect(bob.closed).resolves.toMatchObject({ status: 0, errors: '' });
  alice.say('alone');
  await alice.line(/^Alice: alone$/);
  alice.child.stdin.end();
  await expect(alice.closed).resolves.toMatchObject({ status: 0, errors: '' });
});

test('chat: a member that is killed holds up nobody, and Ctrl-C says goodbye', async () => {
  const alice = start('chat/main.js', ['Alice']);
  const [, psk = '', addr = '', room = ''] =
    /^CHAT_PSK=(\S+) .* NAME (\S+) (\d+)$/.exec(await alice.line(/^CHAT_PSK=/)) ?? [];
  const join = (name: string) => start('chat/main.js', [name, addr, room], { CHAT_PSK: psk });
  const bob = join('Bob');
  await alice.line(/^\* Bob came in/);
  const carol = join('Carol');
  await Promise.all([alice, bob].map(({ line }) => line(/^\* Carol came in/)));
  carol.child.kill('SIGKILL');
  await carol.closed;
  // Far sooner than Carol's node is given up, and in its order.
  for (const word of ['one', 'two', 'three']) {
    bob.say(word);
    await Promise.all([alice, bob].map(({ line }) => line(new RegExp(`^Bob: ${word}$`))));
  }
  for (const { child, closed } of [bob, alice]) {
    child.kill('SIGINT');
    await expect(closed).resolves.toMatchObject({ status: 130, errors: '' });
  }
});

test('chat: a room that cannot be reached is an error that ends the process', async () => {
  const ended = await start('chat/main.js', ['Bob', '127.0.0.1:1', '5']).closed;
  expect(ended).toMatchObject({ status: 1, errors: expect.stringContaining('ERR_MESH_UNREACHABLE') as unknown });
});

describe('demo', () => {
  const text = join(root, 'package-lock.json');

  test('loses and repeats nothing over ten hops, and leaves no process behind', async () => {
    const lines = await outputOf('demo/main.js', [text]);
    expect(lines.join('\n')).toContain('0 lost, 0 repeated');
    const hops = Number(/hops +(\d+) with lines in flight/.exec(lines.join('\n'))?.[1]);
    expect(hops).toBeGreaterThanOrEqual(10);
  }, 120_000);

  test('a text of one line without an end is streamed like any other', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'mesh-daemon-demo-')), 'one.txt');
    writeFileSync(file, 'two words');
    try {
      const lines = (await outputOf('demo/main.js', [file])).join('\n');
      expect(lines).toContain('0 lost, 0 repeated');
      const [, sent = ''] = /lines sent +([\d ]+) \(/.exec(lines) ?? [];
      expect(lines).toMatch(/words counted +[\d ]+, 2 different/);
      expect(Number(sent.replaceAll(' ', ''))).toBeGreaterThan(100);
    } finally {
      rmSync(dirname(file), { recursive: true });
    }
  }, 120_000);

  test.each([
    ['no-such-file', /^there is no file no-such-file\n$/],
    [join(root, 'examples'), /examples is no file\n$/],
    ['--help', /^usage: demo \[FILE\]\n$/],
  ])('%s is no text', async (file, message) => {
    const ended = await start('demo/main.js', [file]).closed;
    expect(ended).toMatchObject({ status: 1, lines: [], errors: expect.stringMatching(message) as unknown });
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends all its processes, with status %d', async (signal, status) => {
    const demo = start('demo/main.js');
    await demo.line(/hops/);
    demo.child.kill(signal);
    await expect(demo.closed).resolves.toMatchObject({ status, errors: '' });
  });

  test('Ctrl-C while its hosts start ends it like any other', async () => {
    // Without /proc there is no telling that they are about to start.
    if (process.platform !== 'linux') return;
    // A terminal sends the signal to the whole group of processes.
    const demo = start('demo/main.js', [], {}, true);
    const pid = demo.child.pid ?? 0;
    const children = `/proc/${String(pid)}/task/${String(pid)}/children`;
    while (demo.child.exitCode === null && readFileSync(children, 'utf8') === '') await new Promise(setImmediate);
    process.kill(-pid, 'SIGINT');
    await expect(demo.closed).resolves.toMatchObject({ status: 130, errors: '' });
  });

  test('its hosts end when it is killed', async () => {
    const demo = start('demo/main.js');
    await demo.line(/hops/);
    demo.child.kill('SIGKILL');
    await expect(demo.closed).resolves.toMatchObject({ signal: 'SIGKILL' });
  });
});
