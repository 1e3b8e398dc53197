// npm run demo -- [FILE]
//
// Streams a text, line by line, to a daemon that counts words, while the daemon moves back and forth between two
// processes. Then the counts are compared with those of an ordinary loop.
//
//   lead.ts         the first process       stream.ts    sends the lines        word-count.ts  the daemon
//   host.ts         the two others          hops.ts      moves the daemon       verdict.ts     compares
//   hosts.ts        starts them             progress.ts  what one sees

import { runHost } from './host';
import { lead } from './lead';
import { NoText, Text, defaultFile } from './words';

async function main(): Promise<void> {
  const [argument, flag, ...more] = process.argv.slice(2);
  // This program starts itself twice more as a host.
  if (argument === '--host') await runHost(flag === 'with-counter');
  else if (argument?.startsWith('-') || flag !== undefined || more.length > 0) throw new NoText('usage: demo [FILE]');
  else process.exitCode = await lead(__filename, new Text(argument ?? defaultFile));
}

main().catch((error: unknown) => {
  console.error(error instanceof NoText ? error.message : error);
  process.exitCode = 1;
});
