/** The daemon objects of one runtime: made, restored, snapshotted, let go. */

import { native } from './binding';
import type { ContextHost } from './daemon-event';
import { copyOf, isOwn, isThenable, thrownRecord } from './daemon-outputs';
import { DaemonRecord } from './dispatcher-record';
import { nextTurn } from './dispatcher-turn';
import type { Scratch } from './runtime-scratch';
import type { ConstructWork, PlainWork, ReadStateWork, RestoreWork, RetireWork } from './runtime-work';
import type { DaemonFactory, MeshDaemon, StopReason } from './types/daemon';
import { types } from 'node:util';

const ENTITY_ID = 32;

/** What a spawn brings with it. */
export interface Instance {
  /** The ready object; without one the kind's factory makes it. */
  readonly daemon?: MeshDaemon | undefined;
  /** What its own code threw meanwhile. */
  thrown?: { readonly value: unknown } | undefined;
}

/** What the objects are kept for. */
interface Host extends ContextHost {
  readonly id: number;
  /** For answers, which need nothing told before them. */
  readonly nativeId: number;
  readonly scratch: Scratch;
  readonly closed: boolean;
  schedule(): void;
}

/** A factory has not settled. */
interface Construction {
  readonly generation: number;
  /** Why what it makes is not wanted any more. */
  ended: StopReason | undefined;
}

export class Life {
  readonly factories = new Map<string, DaemonFactory>();
  readonly #host: Host;
  readonly #slots: (DaemonRecord | undefined)[] = [];
  readonly #byOrigin = new Map<bigint, DaemonRecord>();
  readonly #brought = new Map<number, Instance>();
  /** By slot: daemons whose factory has not settled. */
  readonly #constructing = new Map<number, Construction>();
  /** The spawn that a daemon belongs to until it is over. */
  readonly #spawns = new WeakMap<DaemonRecord, Instance>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** Keeps what a spawn brings until it is settled. */
  bring(ticket: number, instance: Instance): void {
    this.#brought.set(ticket, instance);
  }

  /** The spawn is settled. */
  forget(ticket: number): Instance | undefined {
    const instance = this.#brought.get(ticket);
    if (instance !== undefined) this.#brought.delete(ticket);
    return instance;
  }

  /** The daemon with this name. */
  find({ slot, generation }: { readonly slot: number; readonly generation: number }): DaemonRecord | undefined {
    const record = this.#slots[slot];
    return record?.generation === generation ? record : undefined;
  }

  /** The daemon with this address. */
  at(origin: bigint): DaemonRecord | undefined {
    return this.#byOrigin.get(origin);
  }

  /** What the code of a daemon threw, if that is what an error of this code is about. */
  thrownBy(origin: bigint, code: string): { readonly value: unknown } | undefined {
    if (code !== 'ERR_DAEMON_SNAPSHOT_FAILED') return undefined;
    return this.#byOrigin.get(origin)?.thrown;
  }

  work(work: ConstructWork | RestoreWork | ReadStateWork | PlainWork): void {
    if (work.type === 'construct') {
      this.#construct(work);
      return;
    }
    const record = this.find(work);
    if (record === undefined) return;
    switch (work.type) {
      case 'restore':
        this.#restore(record, work.state);
        return;
      case 'hush':
        this.#hush(record);
        return;
      case 'snapshot':
        this.#snapshot(record);
        return;
      case 'read-state':
        this.#readState(record, native.runtimeStateSlice, work.offset, work.length);
        return;
      case 'check-state':
        this.#readState(record, native.runtimeStateChecked, work.offset, work.length);
        return;
      case 'release-state':
        record.state = undefined;
        return;
      case 'yield':
      case 'abort':
        return;
    }
  }

  /** Lets an object go, and tells it. */
  retire(record: DaemonRecord, reason: StopReason): void {
    record.gone = true;
    record.state = undefined;
    record.batch = undefined;
    record.context = undefined;
    if (this.#slots[record.slot] === record) this.#slots[record.slot] = undefined;
    if (this.#byOrigin.get(record.originHash) === record) this.#byOrigin.delete(record.originHash);
    if (!record.restoring) tellStopped(record.instance, record.originHash, reason);
  }

  /** A daemon is given up whose factory has not settled. */
  abandon({ slot, generation, reason }: RetireWork): void {
    const construction = this.#constructing.get(slot);
    if (construction?.generation !== generation) return;
    construction.ended = reason;
    this.#constructing.delete(slot);
  }

  clear(): void {
    for (const record of this.#slots) if (record !== undefined) this.retire(record, 'shutdown');
    this.#slots.length = 0;
    this.#byOrigin.clear();
    this.#brought.clear();
    this.factories.clear();
  }

  #construct(work: ConstructWork): void {
    const { nativeId: id, scratch } = this.#host;
    const { slot, generation, originHash, kind } = work;
    const entityId = copyOf(scratch.inbox.subarray(0, ENTITY_ID));
    const brought = this.#brought.get(work.ticket);
    const construction: Construction = { generation, ended: undefined };
    this.#constructing.set(slot, construction);
    this.#settle(
      () => {
        if (brought?.daemon !== undefined) return brought.daemon;
        const factory = this.factories.get(kind);
        if (factory === undefined) throw new Error(`no factory registered for kind '${kind}'`);
        return factory({ originHash, kind });
      },
      (made) => {
        const instance = checkedDaemon(made);
        if (!this.#constructed(slot, construction)) {
          tellStopped(instance, originHash, construction.ended ?? 'stopped');
          return;
        }
        const record = new DaemonRecord(this.#host, slot, generation, originHash, entityId, kind, instance);
        this.#slots[slot] = record;
        this.#byOrigin.set(originHash, record);
        if (brought !== undefined) this.#spawns.set(record, brought);
        native.runtimeConstructed(id, slot, generation);
      },
      (thrown) => {
        this.#constructed(slot, construction);
        if (brought !== undefined) brought.thrown = { value: thrown };
        native.runtimeConstructed(id, slot, generation, thrownRecord(thrown));
      },
      (made) => {
        const reason = construction.ended ?? 'shutdown';
        try {
          if (faultOfDaemon(made) === null) tellStopped(made, originHash, reason);
        } catch (thrown) {
          native.logStopFailure(originHash, reason, thrownRecord(thrown));
        }
      },
    );
  }

  /** Whether the daemon is still wanted. */
  #constructed(slot: number, construction: Construction): boolean {
    return this.#constructing.get(slot) === construction && this.#constructing.delete(slot);
  }

  #restore(record: DaemonRecord, state: Buffer): void {
    const { id } = this.#host;
    const { slot, generation } = record;
    record.restoring = true;
    this.#settle(
      () => {
        if (record.instance.restore === undefined) throw new Error('the daemon has no restore method');
        return record.instance.restore(state);
      },
      () => {
        record.restoring = false;
        native.runtimeRestored(id, slot, generation);
      },
      (thrown) => {
        const spawn = this.#spawns.get(record);
        if (spawn !== undefined) spawn.thrown = { value: thrown };
        native.runtimeRestored(id, slot, generation, thrownRecord(thrown));
      },
    );
  }

  #hush(record: DaemonRecord): void {
    const answer = (): void => {
      // Another event of it may have run meanwhile, and a later question waits.
      if (record.gone || record.sent > 0 || this.#host.closed) return;
      native.runtimeHushed(this.#host.id, record.slot, record.generation);
      this.#host.schedule();
    };
    // Behind what it does with the last answer.
    if (record.sent > 0)
      record.hush = () => {
        nextTurn(answer);
      };
    else answer();
  }

  #snapshot(record: DaemonRecord): void {
    const { id } = this.#host;
    const { slot, generation } = record;
    record.thrown = undefined;
    this.#settle(
      () => record.instance.snapshot?.(),
      (state: unknown) => {
        if (state === undefined || state === null) {
          native.runtimeSnapshotTaken(id, slot, generation, -1);
          return;
        }
        if (!types.isUint8Array(state) || !isOwn(state)) {
          throw new TypeError('snapshot must return a Uint8Array over unshared memory, or null');
        }
        record.state = state;
        record.stateLength = state.byteLength;
        native.runtimeSnapshotTaken(id, slot, generation, state.byteLength);
      },
      (thrown) => {
        record.thrown = { value: thrown };
        native.runtimeSnapshotTaken(id, slot, generation, -1, thrownRecord(thrown));
      },
    );
  }

  #readState(record: DaemonRecord, give: typeof native.runtimeStateSlice, offset: number, length: number): void {
    const { id } = this.#host;
    const { slot, generation, state, stateLength } = record;
    if (state?.byteLength !== stateLength || !isOwn(state)) {
      const error = new Error('the Buffer that snapshot returned was detached or resized while it was read');
      record.thrown = { value: error };
      give(id, slot, generation, offset, undefined, thrownRecord(error));
      return;
    }
    give(id, slot, generation, offset, state.subarray(offset, offset + length));
  }

  /**
   * Calls code of the daemon's; a synchronous one costs no promise. What `done` throws counts as thrown by it. Once the runtime has
   * ended only `late` hears of it.
   */
  #settle<T>(
    run: () => T | PromiseLike<T>,
    done: (value: T) => void,
    failed: (thrown: unknown) => void,
    late?: (value: T) => void,
  ): void {
    const finish = (act: () => void): void => {
      if (this.#host.closed) return;
      act();
      this.#host.schedule();
    };
    const complete = (value: T): void => {
      if (this.#host.closed) late?.(value);
      finish(() => {
        try {
          done(value);
        } catch (thrown) {
          failed(thrown);
        }
      });
    };
    const fail = (thrown: unknown): void => {
      finish(() => {
        failed(thrown);
      });
    };
    let value: T | PromiseLike<T>;
    try {
      value = run();
      if (isThenable(value)) {
        Promise.resolve(value).then(complete, fail);
        return;
      }
    } catch (thrown) {
      fail(thrown);
      return;
    }
    complete(value);
  }
}

/** Calls `onStop`. The daemon is gone either way, so what goes wrong is only logged. */
function tellStopped(instance: MeshDaemon, originHash: bigint, reason: StopReason): void {
  const failed = (thrown: unknown): void => {
    native.logStopFailure(originHash, reason, thrownRecord(thrown));
  };
  try {
    const outcome: unknown = instance.onStop?.(reason);
    if (isThenable(outcome)) Promise.resolve(outcome).catch(failed);
  } catch (thrown) {
    failed(thrown);
  }
}

function checkedDaemon(made: unknown): MeshDaemon {
  const fault = faultOfDaemon(made);
  if (fault !== null) throw new TypeError(`a factory must return ${fault}`);
  return made as MeshDaemon;
}

/** What a daemon must be and `made` is not; `null` for any object with a `process` method whose other methods are some. */
export function faultOfDaemon(made: unknown): string | null {
  if (typeof made !== 'object' || made === null || typeof (made as MeshDaemon).process !== 'function') {
    return 'an object with a process method';
  }
  for (const method of ['snapshot', 'restore', 'onStop'] as const) {
    const found = (made as Readonly<Record<string, unknown>>)[method] ?? undefined;
    if (found !== undefined && typeof found !== 'function') return `an object whose ${method} is a method`;
  }
  return null;
}
