// Gates: hold a move at a message of the migration protocol on one node (the build with test hooks only).

import type { DaemonRuntime } from 'mesh-daemon';
import { native } from '../../dist/binding';
import { testHooks } from '../../dist/runtime';

interface Hooks {
  testCloseGate(runtime: number, message: string): void;
  testOpenGate(runtime: number, message: string): void;
}

/** Holds messages of this name from now on. */
export function gate(runtime: DaemonRuntime, message: string): { reached: Promise<void>; open: () => void } {
  const hooks = native as unknown as Hooks;
  let id = 0;
  const reached = new Promise<void>((resolve) => {
    id = testHooks(runtime as never, (name) => {
      if (name === message) resolve();
    });
  });
  hooks.testCloseGate(id, message);
  return {
    reached,
    open: () => {
      hooks.testOpenGate(id, message);
    },
  };
}
