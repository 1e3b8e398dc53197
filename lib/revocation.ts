/** Revocations: tokens that their issuers took back. */

import { inspect, type InspectOptions } from 'node:util';
import { native } from './binding';
import type { RevocationFacts } from './native';
import type { RevokeTokensOptions } from './types/identity';
import { identityArea, integer, options, tokenArea } from './validate/index';
import { readWireForm } from './wire-form';

/** Only this module can make a revocation of facts. */
const internal = Symbol('internal');

let bytesOf: (revocation: Revocation) => Buffer;

/**
 * That the tokens of an issuer below a generation are revoked, signed by it. 100 bytes, made by
 * {@link Identity.revokeTokens}, in force where it is entered ({@link MeshNode.revoke}). It names no time: whichever of an
 * issuer is highest holds, so it can be made ahead and kept where the key is not.
 *
 * @public
 */
export class Revocation {
  readonly #facts: RevocationFacts;

  static {
    bytesOf = (revocation) => revocation.#facts.bytes;
  }

  private constructor(key: typeof internal, facts: RevocationFacts) {
    if (key !== internal) throw tokenArea('use Revocation.parse() or identity.revokeTokens()');
    this.#facts = facts;
  }

  /** Reads the bytes of a revocation. Only the format is checked: see {@link Revocation.verify}. */
  static parse(wire: Uint8Array): Revocation {
    return new Revocation(internal, readWireForm('wire', wire, native.revocationFacts));
  }

  /** Its wire form; a copy. */
  get bytes(): Buffer {
    return Buffer.from(this.#facts.bytes);
  }

  /** 32-byte public key of whose tokens it takes back; a copy. */
  get issuer(): Buffer {
    return Buffer.from(this.#facts.issuer);
  }

  /** The lowest generation that is still good. */
  get below(): number {
    return this.#facts.below;
  }

  /** Whether the issuer signed it. Never throws. */
  verify(): boolean {
    return native.revocationVerify(this.#facts.bytes);
  }

  /** Its wire form; a copy. */
  toBuffer(): Buffer {
    return this.bytes;
  }

  /** What `console.log` shows. */
  [inspect.custom](depth: number, inspectOptions: InspectOptions): string {
    const shown = { issuer: this.#facts.issuer.toString('hex'), below: this.below };
    return `Revocation ${inspect(shown, { ...inspectOptions, depth })}`;
  }
}

/** The bytes of a revocation. */
export function readRevocation(path: string, value: unknown): Uint8Array {
  if (ArrayBuffer.isView(value)) return readWireForm(path, value, native.revocationFacts).bytes;
  try {
    return bytesOf(value as Revocation);
  } catch {
    throw tokenArea(`${path} must be a Revocation or a Uint8Array`);
  }
}

/** Checks what is to be revoked. */
export function readRevokeOptions(given: RevokeTokensOptions | undefined): number {
  if (given === undefined) throw identityArea('options must be an object');
  const read = options(identityArea, 'options', given, { below: true });
  return integer(identityArea, 'options.below', read.below, { min: 1 });
}
