// What members and the room say to each other, as JSON payloads.

/** To the room. Origins are strings: JSON has no 64-bit numbers. */
export type ToRoom = { type: 'join'; name: string; member: string } | { type: 'say'; name: string; text: string };

/** To a member: a line to show. */
export interface ToMember {
  line: string;
}

export function encode(message: ToRoom | ToMember): Buffer {
  return Buffer.from(JSON.stringify(message));
}

/** Everyone in a chat runs this program, so what comes is what was sent. */
export function decode(payload: Buffer): unknown {
  return JSON.parse(payload.toString());
}
