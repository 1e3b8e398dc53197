// Placeholder: the demo (a word-count daemon that moves between two processes) takes this file's place.
import { version } from 'mesh-daemon';

console.log(`mesh-daemon ${version()}: the demo is still to come`);
