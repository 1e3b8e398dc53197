/// <reference types="node" />
// Generated from lib/ by `npm run build:lib`; do not edit.
/**
 * The public API of mesh-daemon.
 *
 * @packageDocumentation
 */
/** The version of the package and of its native code. */
declare function version(): string;

export { version };
