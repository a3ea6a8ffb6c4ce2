// node-zookeeper-client against running servers: node basics.js HOSTS. Each case works below a znode of its own; the last one kills
// the leader, by the commands in LEADER_KILL and LEADER_START. Prints a line for each case, and "N passed, M failed" at the end.
'use strict';
const assert = require('assert');
const { exec } = require('child_process');
const zookeeper = require('node-zookeeper-client');
const { promisify } = require('util');

const hosts = process.argv[2];
const { ACL, CreateMode, Exception, Event, Id, Permission, State } = zookeeper;

// A session whose calls are promises.
class Session {
  constructor() {
    this.client = zookeeper.createClient(hosts, { sessionTimeout: 10000, retries: 20, spinDelay: 100 });
    for (const name of ['create', 'remove', 'exists', 'getData', 'setData', 'getChildren', 'getACL', 'setACL', 'mkdirp']) {
      this[name] = (...words) => new Promise((done, failed) => {
        this.client[name](...words, (error, ...results) => (error ? failed(error) : done(results)));
      });
    }
  }

  async open() {
    const connected = new Promise((done) => this.client.once('connected', done));
    this.client.connect();
    await within(connected, 'a session');
    return this;
  }

  async close() {
    const ended = new Promise((done) => this.client.once('disconnected', done));
    this.client.close();
    await within(ended, 'the end of the session');
  }

  async room() {
    const [path] = await this.create('/node-', null, ACL.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
    return path;
  }
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, failed) => { timer = setTimeout(() => failed(new Error(`${what}: not within 60 s`)), 60000); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function refused(code, promise) {
  await assert.rejects(promise, (error) => error.getCode && error.getCode() === Exception[code], code);
}

const cases = {
  'create, get, set, exists, remove': async (s, path) => {
    await s.create(`${path}/a`, Buffer.from('one'));
    const [data, stat] = await s.getData(`${path}/a`);
    assert.deepStrictEqual([data.toString(), stat.version, stat.dataLength], ['one', 0, 3]);
    const [set] = await s.setData(`${path}/a`, Buffer.from('two'), 0);
    assert.strictEqual(set.version, 1);
    await refused('BAD_VERSION', s.setData(`${path}/a`, Buffer.from('x'), 7));
    await refused('NODE_EXISTS', s.create(`${path}/a`));
    await refused('NO_NODE', s.getData(`${path}/none`));
    await s.remove(`${path}/a`, 1);
    assert.deepStrictEqual(await s.exists(`${path}/a`), [null]);
  },

  'sequential and ephemeral': async (s, path) => {
    const other = await new Session().open();
    const [first] = await other.create(`${path}/s-`, null, ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
    assert.strictEqual(first, `${path}/s-0000000000`);
    const gone = new Promise((done) => s.exists(first, (event) => done(event.getType())));
    await other.close();
    assert.strictEqual(await within(gone, 'the end of the ephemeral'), Event.NODE_DELETED);
    await refused('NOT_EMPTY', s.mkdirp(`${path}/a/b/c`).then(() => s.remove(`${path}/a`)));
    const [names] = await s.getChildren(path);
    assert.deepStrictEqual(names, ['a']);
  },

  'a transaction is all or nothing': async (s, path) => {
    const commit = (transaction) => promisify(transaction.commit.bind(transaction))();
    await commit(s.client.transaction().create(`${path}/a`, Buffer.from('1')).setData(`${path}/a`, Buffer.from('2'), 0).check(`${path}/a`, 1));
    await assert.rejects(commit(s.client.transaction().remove(`${path}/a`).check(`${path}/none`)));
    const [data] = await s.getData(`${path}/a`);
    assert.strictEqual(data.toString(), '2');
  },

  'watches fire once, in order': async (s, path) => {
    const told = [];
    const both = new Promise((done) => {
      const tell = (event) => { told.push(event.toString()); if (told.length === 2) done(); };
      s.exists(`${path}/a`, tell);
      s.getChildren(path, tell);
    });
    const other = await new Session().open();
    await other.create(`${path}/a`);
    await within(both, 'two events');
    assert.deepStrictEqual(told, [`NODE_CREATED[1]@${path}/a`, `NODE_CHILDREN_CHANGED[4]@${path}`]);
    await other.close();
  },

  'lists keep others out': async (s, path) => {
    const other = await new Session().open();
    other.client.addAuthInfo('digest', Buffer.from('bob:pw'));
    await other.create(`${path}/secret`, Buffer.from('x'), [new ACL(Permission.ALL, new Id('auth', ''))]);
    await refused('NO_AUTH', s.getData(`${path}/secret`));
    const [list] = await other.getACL(`${path}/secret`);
    assert.strictEqual(list[0].id.scheme, 'digest');
    await other.setACL(`${path}/secret`, ACL.READ_ACL_UNSAFE, -1);
    const [data] = await s.getData(`${path}/secret`);
    assert.strictEqual(data.toString(), 'x');
    await other.close();
  },

  '2,000 pipelined writes are answered in order': async (s, path) => {
    await s.create(`${path}/n`);
    const order = [];
    const sets = [];
    for (let i = 0; i < 2000; i++) {
      sets.push(s.setData(`${path}/n`, Buffer.from(String(i)), i).then(() => order.push(i)));
    }
    await within(Promise.all(sets), 'all answers');
    assert.deepStrictEqual(order, Array.from({ length: 2000 }, (_, i) => i));
  },
};

async function leaderKilled(s, path) {
  const id = s.client.getSessionId().toString('hex');
  await s.create(`${path}/e`, null, ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
  await s.create(`${path}/k`);
  const created = new Promise((done) => s.exists(`${path}/later`, (event) => done(event.getType())));
  await promisify(exec)(process.env.LEADER_KILL);
  for (let version = 0; version < 20; version++) {
    for (;;) {
      try {
        await within(s.setData(`${path}/k`, Buffer.from(String(version)), version), 'a write');
        break;
      } catch (error) {
        // After a lost connection: was it done?
        if (error.getCode && error.getCode() === Exception.BAD_VERSION) break;
        await new Promise((done) => setTimeout(done, 50));
      }
    }
  }
  await promisify(exec)(process.env.LEADER_START);
  const [stat] = await s.exists(`${path}/e`);
  assert.ok(stat, 'the ephemeral is gone');
  assert.strictEqual(s.client.getSessionId().toString('hex'), id);
  assert.strictEqual((await s.exists(`${path}/k`))[0].version, 20);
  await s.create(`${path}/later`);
  assert.strictEqual(await within(created, 'the watch set before'), Event.NODE_CREATED);
}

async function main() {
  if (process.env.LEADER_KILL) cases['a session outlives the leader'] = leaderKilled;
  let passed = 0;
  let failed = 0;
  for (const [name, test] of Object.entries(cases)) {
    const began = Date.now();
    const session = new Session();
    try {
      await session.open();
      await test(session, await session.room());
      await session.close();
      passed++;
      console.log(`ok    ${name.padEnd(70)} ${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s`);
    } catch (error) {
      failed++;
      console.log(`FAIL  ${name}: ${error}`);
      console.error(error);
      if (session.client.getState() !== State.DISCONNECTED) session.client.close();
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

main();
