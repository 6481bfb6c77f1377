/**
 * Whether what has come to the desk is a question: the text is a worker's, and with it a program's, which must not make
 * the master do what no listen() means. Apart from the type (protocol.ts), because workers need nothing of this.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import type { Question } from './protocol.js';

/** Listeners on port 0 of one address that a process may have at a time. */
const MOST_ON_ANY_PORT = 65;

const QUESTION: z.ZodType<Question> = z.discriminatedUnion('ask', [
  z
    .strictObject({
      ask: z.literal('listener'),
      address: z.string(),
      family: z.union([z.literal(4), z.literal(6)]),
      port: z.int().min(0).max(65_535),
      v6Only: z.boolean(),
      nth: z
        .int()
        .min(0)
        .max(MOST_ON_ANY_PORT - 1),
    })
    .refine(({ address, family }) => isIP(address) === family, 'the address is not one of the family'),
  z.strictObject({ ask: z.literal('ticketKeys') }),
]);

/** @throws an error that says what is wrong with it. */
export function readQuestion(text: string): Question {
  const { success, data, error } = QUESTION.safeParse(JSON.parse(text));
  if (success) return data;
  throw new Error(z.prettifyError(error));
}
