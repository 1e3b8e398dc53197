// The bare mechanisms in native code that ours is compared with (bench/reference), as `npm run bench` built them.

import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

interface Reference {
  setHandler(handler: (payload: unknown) => unknown): void;
  roundTrip(payload: unknown): unknown;
  startBouncing(arrived: (bytes: Buffer) => void): void;
  bounce(bytes: Uint8Array): void;
  stopBouncing(): void;
  noiseSink(): number;
  noisePush(port: number, bytes: Uint8Array): Promise<void>;
  allocatedBytes(): number | null;
}

const folder = join(__dirname, 'reference');
const binary = readdirSync(folder).find((name) => name.endsWith('.node'));
if (binary === undefined) throw new Error(`no binary in ${folder}: run npm run bench`);

export const reference = createRequire(__filename)(join(folder, binary)) as Reference;
