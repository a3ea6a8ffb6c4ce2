// What the stream's counts come to, second by second: rates, percentiles, and how they were over the last minutes.
// Pure: time comes with what arrived.

/** Seconds that are kept. */
const KEPT = 600;

/** What is plotted: a title, how its values are told, and how a value comes from a node's status and the one before. */
export const FIGURES = [
  { key: "ops", title: "ZooKeeper requests answered", unit: "/s", how: (now, before, s) => rate(total(now.answers_us), total(before.answers_us), s) },
  { key: "p50", title: "ZooKeeper latency, median", unit: "µs", how: (now, before) => percentile(now.answers_us, before.answers_us, 0.5) },
  { key: "p99", title: "ZooKeeper latency, 99th percentile", unit: "µs", how: (now, before) => percentile(now.answers_us, before.answers_us, 0.99) },
  { key: "writes", title: "Entries committed", unit: "/s", how: (now, before, s) => rate(commits(now), commits(before), s) },
  { key: "fsyncs", title: "fdatasyncs", unit: "/s", how: (now, before, s) => rate(now.fdatasyncs, before.fdatasyncs, s) },
  { key: "fsync99", title: "fdatasync, 99th percentile", unit: "µs", how: (now, before) => percentile(now.syncs_us, before.syncs_us, 0.99) },
  { key: "log", title: "Written to the log", unit: "B/s", how: (now, before, s) => rate(now.log_bytes, before.log_bytes, s) },
  { key: "outstanding", title: "ZooKeeper requests not answered yet", unit: "", how: (now) => now.outstanding },
  { key: "connections", title: "ZooKeeper clients connected", unit: "", how: (now) => now.connections },
  { key: "sessions", title: "Sessions of the cluster", unit: "", how: (now) => now.sessions },
  { key: "watches", title: "Watches of both services", unit: "", how: (now) => now.watches + (now.kv?.watches ?? 0) },
  { key: "keys", title: "Keys of the key/value store", unit: "", how: (now) => now.kv?.keys ?? null },
  { key: "leases", title: "Leases", unit: "", how: (now) => now.kv?.leases ?? null },
  { key: "memory", title: "Resident memory", unit: "B", how: (now) => now.resident_bytes },
  { key: "cpu", title: "Processor", unit: "%", how: (now, before, s) => rate(now.cpu_ms, before.cpu_ms, s) / 10 },
];

function rate(now, before, seconds) {
  return now >= before ? (now - before) / seconds : 0;
}

function commits(status) {
  return status.groups.reduce((sum, group) => sum + group.commit, 0);
}

function total(counts) {
  return counts.reduce((sum, [, count]) => sum + count, 0);
}

/** The duration that this share of what was counted since `before` took at most, in microseconds; null if nothing was. */
export function percentile(now, before, share) {
  const old = total(before) > total(now) ? new Map() : new Map(before);
  const fresh = now.map(([end, count]) => [end, count - (old.get(end) ?? 0)]).filter(([, count]) => count > 0);
  const wanted = total(fresh) * share;
  let seen = 0;
  for (const [end, count] of fresh) {
    seen += count;
    if (seen >= wanted) return end;
  }
  return null;
}

/** The figures of all nodes over the last minutes. */
export class History {
  constructor() {
    this.last = new Map();
    this.points = new Map(FIGURES.map((figure) => [figure.key, new Map()]));
  }

  /** Takes what the stream told at a time, in milliseconds. */
  add(at, cluster) {
    for (const status of cluster.nodes) {
      const before = this.last.get(status.id);
      const restarted = before && before.status.uptime_ms > status.uptime_ms;
      if (before && !restarted) this.note(at, status, before);
      this.last.set(status.id, { at, status });
    }
  }

  note(at, status, before) {
    // The node's own clock: what waited on the way does not bend the rates.
    const seconds = Math.max(0.05, (status.uptime_ms - before.status.uptime_ms) / 1000);
    for (const { key, how } of FIGURES) {
      const points = this.of(key, status.id);
      points.push({ at, value: how(status, before.status, seconds) });
      if (points.length > KEPT) points.shift();
    }
  }

  /** The points of one figure and node, the oldest first. */
  of(key, node) {
    const nodes = this.points.get(key);
    if (!nodes.has(node)) nodes.set(node, []);
    return nodes.get(node);
  }

  /** The newest value of a figure at a node; null if there is none. */
  now(key, node) {
    return this.of(key, node).at(-1)?.value ?? null;
  }

  /** One figure of the whole cluster: its nodes' values put together, for the last points of each. */
  together(key, nodes, join) {
    const all = nodes.map((node) => this.of(key, node)).filter((points) => points.length > 0);
    const length = Math.max(0, ...all.map((points) => points.length));
    return Array.from({ length }, (_, i) => {
      const values = all.map((points) => points.at(i - length)?.value).filter((value) => value !== undefined && value !== null);
      return values.length ? join(values) : null;
    });
  }
}
