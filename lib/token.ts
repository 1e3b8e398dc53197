export class Token {}
export class TokenChain {}
