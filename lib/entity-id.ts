/** Ids of entities that callers name. */

import { native } from './binding';
import { bytes, type Refuse } from './validate/index';

/** The length of an ed25519 public key. */
export const ENTITY_ID = { length: 32 };

/** A public key of which somebody may have the secret: for other bytes nothing can ever be signed. */
export function readEntityId(refuse: Refuse, path: string, value: unknown): Uint8Array {
  const id = bytes(refuse, path, value, ENTITY_ID);
  if (!native.isPublicKey(id)) throw refuse(`${path} must be an ed25519 public key`);
  return id;
}
