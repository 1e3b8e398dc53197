// Type tests: `npm run typecheck` compiles them against index.d.ts; nothing here runs.

import { version } from 'mesh-daemon';

version() satisfies string;

// @ts-expect-error the loader and the native binding are private
export { loadNative } from 'mesh-daemon';
