'use strict';

// One CommonJS entry. Node's lexer follows this form, so that `import { MeshNode } from 'mesh-daemon'` works too.
module.exports = require('./dist/index.js');
