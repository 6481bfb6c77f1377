/** What goes wrong with one slot or port keeps none of the others from agreeing with who is there. */
import { expect, test } from 'vitest';
import { Agreement, type AgreementParts } from '../../lib/serve/agreement.js';
import { named } from '../support/named.js';

const CASES = [
  { what: 'the rescues cannot be told of a worker', fails: 'worker 0' },
  { what: 'a port does not agree', fails: 'port 0' },
];

test.each(named(CASES, ({ what }) => `all others are told when ${what}, and all again at the next look`))(
  '%s',
  (_, { fails }) => {
    const told: string[] = [];
    const reported: string[] = [];
    const tell = (whom: string) => {
      told.push(whom);
      if (whom === fails) throw new Error(`${whom} failed`);
    };
    const wanted = [0, 1].map((number) => ({ number, current: undefined, workers: [] }));
    const agreement = new Agreement({
      slots: { wanted },
      ports: [0, 1].map((number) => ({ agree: () => tell(`port ${number}`) })),
      // Slot 2 has been taken away by a scaling.
      rescue: { serves: (number: number) => tell(`worker ${number}`), staffed: [0, 1, 2] },
      handover: { retry: () => tell('handover') },
      operations: { isEnding: false },
      agreed: () => {},
      report: ({ message }: Error) => reported.push(message),
    } as unknown as AgreementParts);
    const all = ['worker 0', 'worker 1', 'worker 2', 'port 0', 'port 1', 'handover'];

    agreement.look();
    expect(told).toEqual(all);
    expect(reported).toEqual([`${fails} failed`]);

    agreement.look();
    expect(told).toEqual([...all, ...all]);
    expect(reported).toHaveLength(2);
  },
);
