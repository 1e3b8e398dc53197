'use strict';

const { readdirSync } = require('node:fs');
const { join } = require('node:path');

// Jest, and every process its tests start, run on the build with test hooks (`npm run build:debug`).
const hooks = join(__dirname, 'target', 'test-hooks');
const binary = readdirSync(hooks).find((name) => name.endsWith('.node'));
if (binary === undefined) throw new Error(`no addon in ${hooks}: run npm run build:debug`);
process.env.MESH_DAEMON_NATIVE_PATH = join(hooks, binary);

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  roots: ['<rootDir>/__test__'],
  testMatch: ['**/*.test.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'commonjs' } },
    ],
  },
  // The native code of a loaded machine may be slow; no test asserts absolute time.
  testTimeout: 30_000,
};
