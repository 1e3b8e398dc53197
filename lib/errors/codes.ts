/** Lookups in the generated table of error codes. */

import { ERROR_TABLE } from './codes.generated';
import type { ErrorClassName, ErrorCode } from './codes.generated';

/** One row of the table. */
export interface ErrorRow {
  readonly class: ErrorClassName;
  readonly kind?: string;
}

/** The row of a code, or `undefined` for one that is not in the table. */
export function rowOfCode(code: string): ErrorRow | undefined {
  return Object.hasOwn(ERROR_TABLE, code) ? ERROR_TABLE[code as ErrorCode] : undefined;
}

/** The kind that a code stands for. */
export function kindOfCode(code: string | undefined): string | undefined {
  return code === undefined ? undefined : rowOfCode(code)?.kind;
}
