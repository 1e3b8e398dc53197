/** The types of the public interface, by area. */

export type * from './capabilities.js';
export type * from './channels.js';
export type * from './daemon.js';
export type * from './groups.js';
export type * from './identity.js';
export type * from './mesh.js';
export type * from './migration.js';
export type * from './runtime.js';
export type * from './values.js';
