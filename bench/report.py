"""The page and the plot: medians, and the ratio of each pair."""

import os
import platform
import statistics

OURS = "quorate"
TITLES = {"zookeeper": "Apache ZooKeeper", "etcd": "etcd"}


def brief(seen):
    return ", ".join("%s %s" % (name, figure(value)) for name, value in seen.items())


def figure(value):
    if value is None:
        return "-"
    if isinstance(value, int) or value >= 100:
        return "{:,.0f}".format(value)
    return "%.3g" % value


def median(facts, system, row, name):
    values = [r[system][row][name] for r in facts["rounds"] if row in r[system] and name in r[system][row]]
    return statistics.median(values) if values else None


def ratios(facts, row, name, more_is_better):
    """Ours against the rival's, pair by pair; above 1 is better."""
    found = []
    for r in facts["rounds"]:
        ours, rival = r[OURS].get(row, {}).get(name), r[facts["rival"]].get(row, {}).get(name)
        if ours and rival:
            found.append(ours / rival if more_is_better else rival / ours)
    return found


def pairs(values):
    return "**%.1f** (%s)" % (statistics.median(values), ", ".join("%.1f" % v for v in values)) if values else "-"


# What is compared of each kind of row: name of the figure, its title, whether more is better.
FIGURES = [
    ("ops", "operations/s", True),
    ("p50_ms", "p50 ms", False),
    ("p99_ms", "p99 ms", False),
    ("server_cpu_us_per_op", "server CPU µs/operation", False),
    ("gap_ms", "longest gap ms", False),
    ("seconds", "processes' start to first write s", False),
    ("resident_mib", "resident MiB, largest server", False),
]
AROUND = [("start", "three processes, empty"), ("idle", "idle"), ("loaded", "after these loads")]


def page(facts, chosen, command):
    rival_name = TITLES[facts["rival"]]
    lines = [
        "# Quorate and %s, measured side by side" % rival_name,
        "",
        "Made by `%s`: %d rounds, each ours first, then the rival. Three servers and the load share %d cores; %s, %s." % (
            command, len(facts["rounds"]), os.cpu_count(), platform.platform(), cpu()),
        "Both acknowledge a write once a majority has it on disk (fsync on). Medians of the rounds; in the last column the ratio of each pair, above 1 is in our favour.",
        "",
        "- ours: %s" % facts["versions"][OURS],
        "- rival: %s" % facts["versions"][facts["rival"]],
    ]
    lines += ["- limit of the machine: %s %s" % item for item in facts["limits"].items()]
    lines += ["", "![ratios](%s.svg)" % facts["rival"], "", "| work | figure | ours | %s | ratio (pairs) |" % rival_name, "| --- | --- | --: | --: | --- |"]
    for row, title in [(row.name, row.title) for row in chosen] + AROUND:
        for name, words, more in FIGURES:
            ours, rival = median(facts, OURS, row, name), median(facts, facts["rival"], row, name)
            if ours is not None and rival is not None:
                lines.append("| %s | %s | %s | %s | %s |" % (title, words, figure(ours), figure(rival), pairs(ratios(facts, row, name, more))))
    cpu_line = ["%s %s / %s s" % (row.title, figure(median(facts, OURS, row.name, "generator_cpu_s")), figure(median(facts, facts["rival"], row.name, "generator_cpu_s")))
                for row in chosen if median(facts, OURS, row.name, "generator_cpu_s") is not None]
    lines += ["", "The generator's own CPU, ours / %s: %s." % (rival_name, "; ".join(cpu_line)), ""]
    return "\n".join(lines)


def cpu():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def plot(facts, chosen):
    """Bars of the median ratios of throughput and of p99; whiskers from the worst pair to the best."""
    bars = []
    for row in chosen:
        for name, words, more in [("ops", "operations/s", True), ("p99_ms", "p99", False), ("gap_ms", "gap", False)]:
            values = ratios(facts, row.name, name, more)
            if values:
                bars.append(("%s · %s" % (row.title, words), values))
    top = max([max(values) for _, values in bars] + [1.0])
    left, width, step = 300, 560, 26
    scale = width / top
    height = 60 + step * len(bars)
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">' % (left + width + 70, height),
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text x="%d" y="22" font-size="14">times better than %s (median; line: worst to best pair)</text>' % (left, TITLES[facts["rival"]]),
    ]
    for at, (title, values) in enumerate(bars):
        y, middle = 40 + at * step, statistics.median(values)
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (left - 8, y + 13, title))
        out.append('<rect x="%d" y="%d" width="%.1f" height="16" fill="%s"/>' % (left, y, middle * scale, "#2b7a78" if middle >= 1 else "#b23a48"))
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#222"/>' % (left + min(values) * scale, y + 8, left + max(values) * scale, y + 8))
        out.append('<text x="%.1f" y="%d">%.1f</text>' % (left + max(values) * scale + 6, y + 13, middle))
    one = left + scale
    out.append('<line x1="%.1f" y1="34" x2="%.1f" y2="%d" stroke="#888" stroke-dasharray="4 3"/>' % (one, one, height - 16))
    return "\n".join(out + ["</svg>", ""])
