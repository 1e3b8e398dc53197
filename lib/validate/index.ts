/**
 * Checks of arguments.
 *
 * All take the area's way to refuse, the path that the message begins with, and the value, and return the checked value.
 */

export * from './area';
export * from './bytes';
export * from './kind';
export * from './numbers';
export * from './objects';
export * from './signal';
