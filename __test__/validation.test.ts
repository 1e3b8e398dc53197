// Arguments: typed errors whose message begins with the path, never a crash or a wrapped-around value (hazard 19,
// requirement 135).

import { Identity, IdentityError, channelHash, setLogger } from 'mesh-daemon';

/** Values from JavaScript that the types would not allow. */
function any(value: unknown): never {
  return value as never;
}

function viewOfDetached(): Uint8Array {
  const view = new Uint8Array(32);
  structuredClone(view.buffer, { transfer: [view.buffer] });
  return view;
}

describe('bytes', () => {
  test.each([
    [Buffer.alloc(16), 'seed must be 32 bytes, got 16'],
    [new Uint8Array(0), 'seed must be 32 bytes, got 0'],
    [Buffer.alloc(33), 'seed must be 32 bytes, got 33'],
    ['a'.repeat(32), 'seed must be a Uint8Array, got a string; Buffer.from(text) makes one'],
    [new Uint16Array(16), 'seed must be a Uint8Array, got an object'],
    [new ArrayBuffer(32), 'seed must be a Uint8Array, got an object'],
    [Array.from({ length: 32 }, () => 1), 'seed must be a Uint8Array, got an array'],
    [Object.create(Uint8Array.prototype), 'seed must be a Uint8Array, got an object'],
    [null, 'seed must be a Uint8Array, got null'],
    [undefined, 'seed must be a Uint8Array, got undefined'],
    [new Uint8Array(new SharedArrayBuffer(32)), 'seed must not be backed by a SharedArrayBuffer'],
    [viewOfDetached(), 'seed must not be detached'],
  ])('%p is refused (hazard 19)', (value, message) => {
    expect(() => Identity.fromSeed(any(value))).toThrow(new IdentityError(message));
    expect(() => Identity.fromSeed(any(value))).toThrow(IdentityError);
  });

  test('a view into a larger buffer is read where it points to', () => {
    const whole = Buffer.alloc(64);
    whole.fill(7, 16, 48);
    expect(Identity.fromSeed(whole.subarray(16, 48)).toBytes()).toEqual(Buffer.alloc(32, 7));
  });

  test('arguments are checked in parameter order', () => {
    expect(() => Identity.verify(any(1), any(2), any(3))).toThrow('entityId must be a Uint8Array');
    const id = Identity.generate().entityId;
    expect(() => Identity.verify(id, any(2), any(3))).toThrow('message must be a Uint8Array');
    expect(() => Identity.verify(id, Buffer.alloc(0), Buffer.alloc(63))).toThrow('signature must be 64 bytes, got 63');
  });

  test('methods refuse a foreign receiver instead of crashing', () => {
    const forged = Object.create(Identity.prototype) as Identity;
    expect(() => forged.sign(Buffer.alloc(1))).toThrow(/private/);
  });
});

describe('strings, functions and options', () => {
  test('a channel name is a string', () => {
    expect(() => channelHash(any(7))).toThrow('name must be a string');
  });

  test('a logger is a function or null', () => {
    expect(() => {
      setLogger(any('x'));
    }).toThrow('fn must be a function');
  });

  test('unknown options and choices are refused', () => {
    expect(() => {
      setLogger(null, any({ levle: 'info' }));
    }).toThrow("unknown option 'levle' in options; there are level");
    expect(() => {
      setLogger(null, any({ level: 'loud' }));
    }).toThrow("options.level must be one of 'error', 'warn', 'info', 'debug', 'trace'");
    expect(() => {
      setLogger(null, any(7));
    }).toThrow('options must be an object');
  });
});
