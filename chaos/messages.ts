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

/** A message that the client published, and what it was told of it. */
export interface Published {
  readonly number: number;
  readonly report:
    | { readonly as: 'waiting' }
    | { readonly as: 'rejected'; readonly error: string }
    | {
        readonly as: 'told';
        readonly attempted: number;
        readonly delivered: number;
        readonly errors: readonly string[];
      };
}

/** Numbers of what a daemon ran: of the events sent to it, and of the messages of the channel. */
export interface Remembered {
  readonly events: readonly number[];
  readonly messages: readonly number[];
}

/** How a move ended for whoever drove it. */
export type Ending =
  { readonly as: 'resolved' } | { readonly as: 'rejected'; readonly kind: string; readonly outcome: string };

/** What children can be asked for. */
export interface Commands {
  connect: { addr: string; result: bigint };
  spawn: { identity: string; ballast: number; result: bigint };
  /** Opens a channel here. */
  openChannel: { result: null };
  /** Lets a daemon of this node hear the channel of a publisher, as the only member of a queue group or by itself. */
  subscribe: { origin: bigint; publisher: bigint; inGroup: boolean; result: null };
  gate: { message: string; result: null };
  open: { message: string; result: null };
  migrate: { origin: bigint; source: bigint; target: bigint; result: null };
  /** Somebody's word that the daemon's other host is gone. False when nothing of the daemon is left here. */
  recover: { origin: bigint; patienceMs: number; result: boolean };
  standing: { result: Standing };
  load: { origin: bigint; result: null };
  /** Publishes on the channel that was opened. */
  publish: { result: null };
  /** Stops emitting and waits for the fate of everything emitted. */
  settle: { patienceMs: number; result: { emitted: Emitted[]; published: Published[] } };
  /** Everything that the daemon's state remembers, once it answers. */
  dump: { origin: bigint; patienceMs: number; result: Remembered };
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
