/** Passing tokens on. */

import { native } from './binding';
import { identityHandle, type Identity } from './identity';
import { readScope, readTokenLike, type Token, tokenFromBytes } from './token';
import type { TokenLike, TokenScope } from './types/identity';
import { bytes, identityArea } from './validate/index';

/**
 * Passes a part of a token on: at most its scope, the same channel, the same end, one step less to delegate. Of a chain
 * the leaf is passed on; what is presented then is `TokenChain.of(...chain.tokens, result)`.
 *
 * Throws {@link TokenError}, checked in this order: the parent is valid, `signer` is its subject (`not_authorized`), it has
 * the delegate bit (`delegation_not_allowed`), its depth is above 0 (`delegation_exhausted`).
 *
 * @public
 */
export function delegateToken(
  signer: Identity,
  parent: TokenLike,
  subject: Uint8Array,
  scope: readonly TokenScope[],
): Token {
  const by = identityHandle(identityArea, 'signer', signer);
  const from = readTokenLike('parent', parent);
  const to = bytes(identityArea, 'subject', subject, { length: 32 });
  return tokenFromBytes(native.tokenDelegate(by, from, to, readScope(identityArea, 'scope', scope)));
}
