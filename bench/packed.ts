// Packed batches over one crossing: payloads in one buffer with their lengths, through another thread and back.

import { reference } from './reference';

/** Payloads per crossing. */
const BATCH = 256;

let arrived: (batch: Buffer) => void = () => undefined;

export function startPacked(): void {
  reference.startBouncing((batch) => {
    arrived(batch);
  });
}

export function endPacked(): void {
  reference.stopBouncing();
}

/** Gives each payload to `handle` when its batch came back, one batch in flight. */
export async function crossPacked(payloads: readonly Uint8Array[], handle: (payload: Buffer) => void): Promise<void> {
  for (let first = 0; first < payloads.length; first += BATCH) {
    const batch = pack(payloads.slice(first, first + BATCH));
    const back = await new Promise<Buffer>((resolve) => {
      arrived = resolve;
      reference.bounce(batch);
    });
    unpack(back, handle);
  }
}

function pack(payloads: readonly Uint8Array[]): Buffer {
  let size = 0;
  for (const payload of payloads) size += 4 + payload.length;
  const packed = Buffer.allocUnsafe(size);
  let at = 0;
  for (const payload of payloads) {
    at = packed.writeUInt32LE(payload.length, at);
    packed.set(payload, at);
    at += payload.length;
  }
  return packed;
}

function unpack(packed: Buffer, handle: (payload: Buffer) => void): void {
  for (let at = 0; at < packed.length;) {
    const end = at + 4 + packed.readUInt32LE(at);
    handle(packed.subarray(at + 4, end));
    at = end;
  }
}
