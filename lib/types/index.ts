/** The types of the public interface, by area. */

export type * from './capabilities';
export type * from './channels';
export type * from './daemon';
export type * from './groups';
export type * from './identity';
export type * from './mesh';
export type * from './migration';
export type * from './runtime';
export type * from './values';
