// node build/examples/rolling-restart/main.js [SECONDS]
//
// Three processes host stateful daemons. Each is told to end with SIGTERM, as a deployment does it, and replaced by a new
// one, while callers go on calling. A process that is told to end drains: its daemons move to the others with their state.
// Not one call fails or is lost; otherwise the exit status is 1. SECONDS is how long the load runs between two restarts.
//
//   main.ts     the deployment      fleet.ts   starts and ends the processes     load.ts   the callers
//   service.ts  one process         tally.ts   the daemon

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { DaemonRuntime, MeshNode } from 'mesh-daemon';
import { Fleet, type Service } from './fleet';
import { Load } from './load';
import { serve } from './service';

const SERVICES = 3;
const TALLIES = 8;

async function deploy(seconds: number): Promise<number> {
  const psk = randomBytes(32).toString('hex');
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const fleet = new Fleet(__filename, psk);
  try {
    // This node hosts nothing: it has no factory, so nobody drains to it.
    const runtime = DaemonRuntime.create(mesh);
    await mesh.start();
    runtime.start();

    const services: Service[] = [];
    const start = async (tallies: number): Promise<Service> => {
      const service = await fleet.start(tallies);
      await mesh.connect(service.card.addr, service.card.publicKey);
      for (const other of services) await service.meet(other.card);
      services.push(service);
      return service;
    };
    for (let index = 0; index < SERVICES; index += 1) await start(TALLIES);
    const tallies = services.flatMap(({ card }) => card.tallies.map(BigInt));
    const load = new Load(runtime, tallies);

    let unclean = 0;
    for (const [index, service] of [...services].entries()) {
      await sleep(seconds * 1000);
      const status = await service.terminate();
      services.splice(services.indexOf(service), 1);
      if (status !== 0) unclean += 1;
      await start(0);
      console.log(`process ${String(index + 1)} restarted after ${String(load.answered)} calls`);
    }
    await sleep(seconds * 1000);
    await load.stop();

    for (const failure of load.failures.slice(0, 10)) console.log(failure);
    console.log(
      `${String(load.answered)} calls of ${String(tallies.length)} daemons, ${String(load.failures.length)} failed; ` +
        `the longest took ${load.longest.toFixed(0)} ms`,
    );
    return load.failures.length === 0 && unclean === 0 ? 0 : 1;
  } finally {
    await fleet.stop();
    await mesh.shutdown();
  }
}

async function main(): Promise<void> {
  const [argument = '2', tallies = '0'] = process.argv.slice(2);
  // This program starts itself as the services.
  if (argument === '--service') await serve(Number(tallies));
  else process.exitCode = await deploy(Number(argument));
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
