/** Passing tokens on. */

import { native } from './binding';
import { readEntityId } from './entity-id';
import { identityHandle, type Identity, tokenCache } from './identity';
import { readScope, readTokenLike, type Token, tokenFromBytes } from './token';
import type { TokenLike, TokenScope } from './types/identity';
import { identityArea } from './validate/index';

/**
 * Passes a part of a token on: of `scope` what the parent has too, whatever else is asked for, the same channel, the same end, one step less to delegate. Of a chain
 * the leaf is passed on; what is presented then is `TokenChain.of(...chain.tokens, result)`.
 *
 * Throws {@link TokenError}, checked in this order: the parent is valid, and none of its tokens is revoked by what `signer` was
 * told ({@link Identity.installRevocation}), `signer` is its subject (`not_authorized`), it has
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
  const to = readEntityId(identityArea, 'subject', subject);
  const bits = readScope(identityArea, 'scope', scope);
  return tokenFromBytes(native.tokenDelegate(by, tokenCache(signer), from, to, bits));
}
