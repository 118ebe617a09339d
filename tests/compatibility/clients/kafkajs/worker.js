// kafkajs as a worker: a line of JSON in, a line out (README.md).
'use strict';

const path = require('path');
const readline = require('readline');

const modules = path.join(process.argv[2], 'node_modules');
const load = (name) => require(path.join(modules, name));
const kafkajs = load('kafkajs');
const { version } = load('kafkajs/package.json');
const snappy = load('kafkajs-snappy');
const lz4 = load('lz4-napi');
const zstd = load('@bokuweb/zstd-wasm');

const { CompressionTypes, CompressionCodecs, Kafka, PartitionAssigners, logLevel } = kafkajs;

class Unsupported extends Error {}

CompressionCodecs[CompressionTypes.Snappy] = snappy;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: async (buffer) => lz4.decompressFrame(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
});
const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' };

const decode = (text) => (text === null ? null : Buffer.from(text, 'base64'));
const encode = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'));
const soon = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const members = {};
const producers = {};
let kafka;
let shared;

async function admin() {
  if (!shared) {
    shared = kafka.admin();
    await shared.connect();
  }
  return shared;
}

// --- records ---------------------------------------------------------------------------------------------------------

function headersOf(pairs) {
  const headers = {};
  for (const [name, value] of pairs) (headers[name] = headers[name] || []).push(decode(value));
  return headers;
}

function pairsOf(headers) {
  return Object.entries(headers || {}).flatMap(([name, value]) =>
    [].concat(value).map((each) => [name, encode(each)]),
  );
}

function messageOf(record) {
  const message = { key: decode(record.key), value: decode(record.value), headers: headersOf(record.headers) };
  if (record.partition !== null) message.partition = record.partition;
  if (record.timestamp !== null) message.timestamp = String(record.timestamp);
  return message;
}

async function producer(keep, idempotent) {
  if (keep && producers[keep]) return producers[keep];
  const made = kafka.producer({
    idempotent,
    maxInFlightRequests: idempotent ? 1 : undefined,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    retry: { retries: 20, maxRetryTime: 2000 },
  });
  await persistently(() => made.connect());
  if (keep) producers[keep] = made;
  return made;
}

// It gives up where a broker is lost, be it in a send or in a connect that wants a producer's id of the controller that
// has just died, and leaves it to the program to try again. An idempotent producer may: it counts no sequence on until
// a send has succeeded.
async function persistently(work) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const lost = error.retriable || /Connect|Timeout|NumberOfRetries|Broker|not initialized/.test(`${error}`);
      if (attempt === 60 || !lost) throw error;
      await soon(500);
    }
  }
}

async function produce({ topic, records, codec = 'none', acks = 'all', idempotent = true, keep = null }) {
  const used = await producer(keep, idempotent && acks === 'all');
  // The partition of each is told only for a whole batch: it is chosen here, so that each record's place is known.
  const sent = records.map((record) => ({ ...messageOf(record), partition: record.partition ?? 0 }));
  try {
    const what = { topic, messages: sent, acks: acks === 'all' ? -1 : Number(acks) };
    const answers = await persistently(() => used.send({ ...what, compression: CompressionTypes[CODECS[codec]] }));
    const next = new Map((answers || []).map((each) => [each.partition, Number(each.baseOffset)]));
    return sent.map(({ partition }) => {
      if (!next.has(partition)) return [partition, -1];
      const offset = next.get(partition);
      next.set(partition, offset + 1);
      return [partition, offset];
    });
  } finally {
    if (!keep) await used.disconnect();
  }
}

function gotOf(topic, partition, message) {
  return {
    topic,
    partition,
    offset: Number(message.offset),
    key: encode(message.key),
    value: encode(message.value),
    headers: pairsOf(message.headers),
    timestamp: Number(message.timestamp),
  };
}

async function take(member, count, timeoutS) {
  const deadline = Date.now() + timeoutS * 1000;
  while (member.queue.length < count && Date.now() < deadline) await soon(20);
  const taken = member.queue.splice(0, count);
  for (const each of taken) member.positions.set(`${each.topic} ${each.partition}`, each);
  return taken;
}

// It goes on sending heartbeats to a coordinator that has died and looks for another only when it starts anew, which it
// does after so many retries, each of which waits for all fetches: few and short ones, or it stands still for minutes.
const IMPATIENT = { maxWaitTimeInMs: 500, retry: { retries: 5, maxRetryTime: 1000, restartOnFailure: async () => true } };

async function start(settings, topics, autoCommit) {
  const consumer = kafka.consumer({ ...IMPATIENT, ...settings });
  const member = { consumer, queue: [], positions: new Map(), assigned: [], group: settings.groupId };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    member.assigned = Object.entries(payload.memberAssignment).flatMap(([topic, numbers]) =>
      numbers.map((number) => [topic, number]),
    );
    member.queue = []; // what was not taken is read again from the committed offset
  });
  consumer.on(consumer.events.REBALANCING, () => {
    member.assigned = [];
  });
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  await consumer.run({
    autoCommit,
    eachMessage: async ({ topic, partition, message }) => {
      member.queue.push(gotOf(topic, partition, message));
    },
  });
  return member;
}

async function consume({ topic, count, timeout_s, isolation = 'read_uncommitted' }) {
  const groupId = `reader-${process.pid}-${Math.random()}`;
  const member = await start({ groupId, readUncommitted: isolation !== 'read_committed' }, [topic], false);
  try {
    return await take(member, count, timeout_s);
  } finally {
    await member.consumer.disconnect();
  }
}

// --- groups ----------------------------------------------------------------------------------------------------------

const assigners = { roundrobin: PartitionAssigners.roundRobin };

async function join(asked) {
  const { member, group, topics = [], protocol = 'classic', assignor = null, instance = null, session_ms = 10_000 } = asked;
  if (protocol !== 'classic' || (assignor !== null && !assigners[assignor])) {
    throw new Unsupported(`${protocol} with ${assignor}`);
  }
  if (asked.pattern && asked.later) throw new Unsupported('a pattern is looked at when subscribing alone');
  if (instance !== null) throw new Unsupported('no static members');
  const settings = { groupId: group, sessionTimeout: session_ms, heartbeatInterval: Math.floor(session_ms / 10) };
  const wanted = asked.pattern ? [new RegExp(asked.pattern)] : topics;
  members[member] = await start(settings, wanted, Boolean(asked.auto_commit));
  return {};
}

// Its commitOffsets returns without a word, and commits nothing, while the consumer starts anew: so look.
async function commit({ member }) {
  const { consumer, group, positions } = members[member];
  const wanted = [...positions.values()].map((each) => ({ ...each, offset: each.offset + 1 }));
  await persistently(async () => {
    await consumer.commitOffsets(
      wanted.map(({ topic, partition, offset }) => ({ topic, partition, offset: String(offset) })),
    );
    for (const { topic, partition, offset } of wanted) {
      const known = (await offsets({ group, topic }))[partition];
      if (known !== offset) throw Object.assign(new Error(`${offset} is not committed`), { retriable: true });
    }
  });
  return {};
}

async function offsets({ group, topic }) {
  const [found] = await (await admin()).fetchOffsets({ groupId: group, topics: [topic] });
  const known = found.partitions.filter(({ offset }) => Number(offset) >= 0);
  return Object.fromEntries(known.map(({ partition, offset }) => [partition, Number(offset)]));
}

async function leave({ member, silent = false }) {
  if (silent) throw new Unsupported('its consumers leave when they disconnect');
  await members[member].consumer.disconnect();
  delete members[member];
  return {};
}

// --- admin -----------------------------------------------------------------------------------------------------------

const calls = {
  async create_topic({ topic, partitions, replicas, configs }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }));
    const topics = [{ topic, numPartitions: partitions, replicationFactor: replicas, configEntries }];
    if (!(await (await admin()).createTopics({ topics }))) throw Object.assign(new Error(topic), { code: 36 });
    return {};
  },
  topics: async () => (await admin()).listTopics(),
  async delete_topic({ topic }) {
    await (await admin()).deleteTopics({ topics: [topic] });
    return {};
  },
  async grow({ topic, partitions }) {
    await (await admin()).createPartitions({ topicPartitions: [{ topic, count: partitions }] });
    return {};
  },
  async describe_topic({ topic }) {
    const { topics } = await (await admin()).fetchTopicMetadata({ topics: [topic] });
    const found = topics[0].partitions.sort((a, b) => a.partitionId - b.partitionId);
    return { partitions: found.map(({ leader, replicas, isr }) => ({ leader, replicas, isr })) };
  },
  async configs({ topic }) {
    const resources = [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic }];
    const { resources: found } = await (await admin()).describeConfigs({ resources, includeSynonyms: false });
    return Object.fromEntries(found[0].configEntries.map(({ configName, configValue }) => [configName, configValue]));
  },
  async set_config({ topic, name, value }) {
    const resources = [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name, value }] }];
    await (await admin()).alterConfigs({ validateOnly: false, resources });
    return {};
  },
  async trim({ topic, partition, offset }) {
    const used = await admin();
    await used.fetchTopicOffsets(topic); // else it does not know the topic's leaders
    await used.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] });
    const found = await used.fetchTopicOffsets(topic); // it is not told what the broker answered
    return Number(found.find((each) => each.partition === partition).low);
  },
  groups: async () => (await (await admin()).listGroups()).groups.map(({ groupId }) => groupId),
  async describe_group({ group }) {
    const [found] = (await (await admin()).describeGroups([group])).groups;
    return { state: found.state.toLowerCase(), members: found.members.length };
  },
  offsets,
  async delete_group({ group }) {
    await (await admin()).deleteGroups([group]);
    return {};
  },
  async cluster() {
    const { brokers, controller } = await (await admin()).describeCluster();
    return { brokers: brokers.map(({ nodeId }) => nodeId).sort(), controller };
  },
  async offset_at({ topic, partition, timestamp }) {
    const used = await admin();
    if (timestamp === -3) throw new Unsupported('no look-up of the largest time');
    const found =
      timestamp >= 0 ? await used.fetchTopicOffsetsByTimestamp(topic, timestamp) : await used.fetchTopicOffsets(topic);
    const one = found.find((each) => each.partition === partition);
    return Number(timestamp >= 0 ? one.offset : timestamp === -1 ? one.high : one.low);
  },
};

const does = {
  hello({ servers }) {
    kafka = new Kafka({
      clientId: 'worker',
      brokers: servers.split(','),
      logLevel: logLevel.INFO,
      logCreator: () => ({ log }) => process.stderr.write(JSON.stringify(log) + '\n'),
      retry: { retries: 8, maxRetryTime: 2000 },
    });
    return { client: 'kafkajs', version };
  },
  produce,
  consume,
  join,
  poll: ({ member, count, timeout_s }) => take(members[member], count, timeout_s),
  assignment: ({ member }) => members[member].assigned,
  commit,
  committed: ({ member, topic }) => offsets({ group: members[member].group, topic }),
  leave,
  async admin({ call, ...rest }) {
    if (!calls[call]) throw new Unsupported(call);
    return calls[call](rest);
  },
};

// --- the loop --------------------------------------------------------------------------------------------------------

function said(error) {
  const inner = error.errors?.[0] || error.cause || error;
  const code = typeof inner.code === 'number' && inner.code >= 0 ? inner.code : null;
  return { code, name: inner.type || inner.name, message: inner.message };
}

async function answer(line) {
  const { do: what, ...asked } = JSON.parse(line);
  try {
    if (!does[what]) throw new Unsupported(what);
    return { ok: await does[what](asked) };
  } catch (error) {
    return error instanceof Unsupported ? { unsupported: error.message } : { error: said(error) };
  }
}

async function main() {
  await zstd.init();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(line)) + '\n');
  }
  process.exit(0);
}

main();
