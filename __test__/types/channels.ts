// Type tests of channels and tokens: `npm run typecheck` compiles them; nothing here runs.

import { ChannelAuthError, delegateToken, type Identity, type MeshNode, type PublishReport } from 'mesh-daemon';
import { type Revocation, Token, TokenChain } from 'mesh-daemon';
import type { ChannelConfig, ChannelMessage, TokenLike } from 'mesh-daemon';

export async function channels(mesh: MeshNode, identity: Identity): Promise<void> {
  mesh.registerChannel({ name: 'a', visibility: 'global', tokenRoots: [identity.entityId] });
  // @ts-expect-error a name is needed
  ({ reliable: true }) satisfies ChannelConfig;
  // @ts-expect-error no such visibility
  mesh.registerChannel({ name: 'a', visibility: 'everywhere' });
  (await mesh.publish('a', new Uint8Array(1), {
    reliability: 'reliable',
    onFailure: 'collect',
  })) satisfies PublishReport;
  await using subscription = mesh.messages(1n, 'a');
  await subscription.ready;
  for await (const message of subscription) message satisfies ChannelMessage;
  const token = identity.issueToken({ subject: identity.entityId, scope: ['subscribe'], channel: 'a', ttlSeconds: 1 });
  // @ts-expect-error no such scope
  identity.issueToken({ subject: identity.entityId, scope: ['read'], channel: 'a', ttlSeconds: 1 });
  const revocation = identity.revokeTokens({ below: token.generation + 1 }) satisfies Revocation;
  // @ts-expect-error generations are numbers
  identity.revokeTokens({ below: 1n });
  for (const like of [revocation, revocation.bytes]) await mesh.revoke(like, { signal: AbortSignal.timeout(1) });
  mesh.revocations() satisfies Revocation[];
  // @ts-expect-error a token is no revocation
  await mesh.revoke(token);
  new ChannelAuthError('m').kind satisfies 'not_authorized' | 'expired' | 'not_yet_valid' | 'revoked';
  delegateToken(identity, TokenChain.of(token), identity.entityId, ['subscribe']) satisfies Token;
  for (const like of [token, TokenChain.of(token), Token.parse(token.bytes).bytes] satisfies TokenLike[]) {
    await mesh.subscribeChannel(1n, 'a', { token: like });
  }
}
