/** Opaque values that only native code looks into. */

declare const identityHandle: unique symbol;

/** A native key pair. */
export interface IdentityHandle {
  readonly [identityHandle]: true;
}
