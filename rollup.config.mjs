// Rolls the types of lib/ up into index.d.ts, the public API in one file.
import { dts } from 'rollup-plugin-dts';

export default {
  input: 'lib/index.ts',
  external: /^node:/,
  output: {
    file: 'index.d.ts',
    format: 'es',
    banner: '/// <reference types="node" />\n// Generated from lib/ by `npm run build:lib`; do not edit.',
  },
  plugins: [dts({ tsconfig: 'tsconfig.build.json' })],
};
