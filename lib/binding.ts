/** The native part, bound to this JavaScript environment. Every module takes it from here. */

import { errorFromNative } from './errors/from-native';
import { loadNative } from './load';
import { receiveNotices } from './notices';

export const native = loadNative();

native.bindEnvironment(
  (record) => errorFromNative(record),
  () => {
    receiveNotices(native.takeNotices());
  },
);
