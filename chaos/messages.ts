// What the process that runs the trials and its children say to each other, over the channel that Node gives them.

/** What a child is started with. */
export interface Setup {
  readonly name: string;
  readonly psk: string;
  /** Hex. */
  readonly seed: string;
  /** The file that the daemon writes. */
  readonly journal: string;
}

/** What became of an event that the client emitted. */
export type Fate =
  | { readonly as: 'answered'; readonly output: string }
  | { readonly as: 'accepted' }
  | Failed
  | { readonly as: 'waiting' };

interface Failed {
  readonly as: 'failed';
  readonly code: string;
  readonly executed: string | null;
}

/** How an event is emitted. */
export type Entrance = 'call' | 'send' | 'deliver' | 'deliverMany';

/** An event that the client emitted. */
export interface Emitted {
  readonly number: number;
  /** The number of the first one that was entered with it; its own when it was entered alone. */
  readonly first: number;
  readonly by: Entrance;
  readonly fate: Fate;
}

/** How a move ended for whoever drove it. */
export type Ending =
  { readonly as: 'resolved' } | { readonly as: 'rejected'; readonly kind: string; readonly outcome: string };

/** What children can be asked for. */
export interface Commands {
  connect: { addr: string; result: bigint };
  spawn: { identity: string; ballast: number; result: bigint };
  gate: { message: string; result: null };
  open: { message: string; result: null };
  migrate: { origin: bigint; source: bigint; target: bigint; result: null };
  /** Somebody's word that the daemon's other host is gone. False when nothing of the daemon is left here. */
  recover: { origin: bigint; patienceMs: number; result: boolean };
  standing: { result: Standing };
  load: { origin: bigint; result: null };
  /** Stops emitting and waits for the fate of everything emitted. */
  settle: { patienceMs: number; result: Emitted[] };
  /** Everything that the daemon's state remembers, once it answers. */
  dump: { origin: bigint; patienceMs: number; result: number[] };
}

/** What is alive on a node. */
export interface Standing {
  readonly daemons: number;
  readonly migrations: readonly string[];
  readonly arrivingBytes: number;
}

/** What children report without being asked. */
export type Report =
  | { readonly type: 'ready'; readonly addr: string; readonly node: bigint }
  | { readonly type: 'reached'; readonly message: string }
  | { readonly type: 'ended'; readonly ending: Ending }
  | { readonly type: 'daemon'; readonly event: string }
  | { readonly type: 'answered'; readonly count: number };
