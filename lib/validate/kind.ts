/** What was given instead of what was asked for. */

/** The kind of a value in words, for the end of a message. Looks at nothing that a value could answer by itself. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
