/** Opaque values that only native code looks into. */

declare const identityHandle: unique symbol;

/** A native key pair. */
export interface IdentityHandle {
  readonly [identityHandle]: true;
}

declare const tokenCacheHandle: unique symbol;

/** A native store of tokens. */
export interface TokenCacheHandle {
  readonly [tokenCacheHandle]: true;
}
