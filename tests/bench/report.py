# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes of what loopd-bench measured what people read: a table of every figure, the
goals beside what was reached, one JSON file with all of it, and plots."""

import json
import math
import statistics
import subprocess
import sys


def percentile(samples, part):
    ordered = sorted(samples)
    return ordered[max(math.ceil(part * len(ordered)), 1) - 1]


# What Google Benchmark says of a repetition beside the counters.
OWN_KEYS = {
    "name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions", "repetition_index",
    "threads", "iterations", "real_time", "cpu_time", "time_unit"}


class Results:
    """By the number of devices, then by name: times in seconds, figures as they are."""

    def __init__(self):
        self.by_population = {}
        self.failed = []
        self.machine = {}

    def read(self, path):
        document = json.loads(path.read_text())
        context = document["context"]
        self.machine = {key: context[key] for key in ("date", "num_cpus", "mhz_per_cpu", "host_name") if key in context}
        del self.machine["host_name"]
        population = int(context["population"])
        samples = {}
        for run in document["benchmarks"]:
            if run["run_type"] != "iteration":
                continue
            name = run["run_name"].split("/iterations:")[0]
            if run.get("error_occurred"):
                self.failed.append(f"{name} ({population} devices): {run['error_message']}")
                continue
            assert run["time_unit"] == "us"
            samples.setdefault(name, []).append(run)
        of_population = self.by_population.setdefault(population, {})
        for name, runs in samples.items():
            of_population[name] = summary(runs)

    def get(self, population, name, figure="p50"):
        """None: was not measured."""
        return self.by_population.get(population, {}).get(name, {}).get(figure)

    def populations(self):
        return sorted(self.by_population)


def summary(runs):
    times = [run["real_time"] / 1e6 for run in runs]
    result = {"repetitions": len(times), "p50": statistics.median(times), "p95": percentile(times, 0.95)}
    for key in runs[0].keys() - OWN_KEYS:
        result["figure-" + key] = statistics.median(run[key] for run in runs)
    return result


class Goal:
    """`value` gives the figure or None; it is reached at `limit` or below, or above for factor()."""

    def __init__(self, what, value, limit, unit):
        self.what, self.value, self.limit, self.unit = what, value, limit, unit

    def reached(self, value):
        return value >= self.limit if self.unit == "times faster" else value <= self.limit


def ratio(results, population, name, *parts):
    value = results.get(population, name)
    base = [results.get(population, part) for part in parts]
    return None if value is None or None in base else value / sum(base)


def faster(results, population, name, than):
    value = ratio(results, population, name, than)
    return None if value is None else 1 / value


def scaled(value, factor):
    return None if value is None else value * factor


def memory_for_each(results):
    few, many = results.get(0, "memory/loopd", "figure-memory"), results.get(2000, "memory/loopd", "figure-memory")
    return None if few is None or many is None else (many - few) / 2000 / 1024


def growth(results):
    before, after = (results.get(0, "cycles-without-udev/loopd", f"figure-memory-{when}") for when in ("halfway", "after"))
    return None if before is None or after is None else (after - before) / 1024


TIMES, FASTER, MS, KIB, MIB = "×", "times faster", "ms", "KiB", "MiB"
GOALS = [
    Goal("attach: × (bare ioctls + round trip)",
         lambda r: ratio(r, 0, "attach/loopd", "attach/bare", "round-trip/loopd"), 1.5, TIMES),
    Goal("attach: against UDisks2", lambda r: faster(r, 0, "attach/loopd", "attach/udisks"), 30, FASTER),
    Goal("attach, 500 devices: × bare ioctls", lambda r: ratio(r, 500, "attach/loopd", "attach/bare"), 1.3, TIMES),
    Goal("attach, 500 devices: against UDisks2", lambda r: faster(r, 500, "attach/loopd", "attach/udisks"), 60, FASTER),
    Goal("attach, 2000 devices: × bare ioctls", lambda r: ratio(r, 2000, "attach/loopd", "attach/bare"), 1.3, TIMES),
    Goal("attach by 16 clients at once: × bare, one after another",
         lambda r: ratio(r, 0, "attach-by-16-clients/loopd", "attach-by-16-clients/bare"), 1, TIMES),
    Goal("500 removals at once, each", lambda r: scaled(r.get(0, "remove-500-at-once/loopd"), 1e3), 1.5, MS),
    Goal("remove, node kept: × (bare detach + round trip)",
         lambda r: ratio(r, 0, "detach/loopd", "detach/bare", "round-trip/loopd"), 1.5, TIMES),
    Goal("a property: × round trip", lambda r: ratio(r, 0, "property/loopd", "round-trip/loopd"), 1.2, TIMES),
    Goal("GetManagedObjects, 2000 devices", lambda r: scaled(r.get(2000, "list-all/loopd"), 1e3), 30, MS),
    Goal("udev's event to PartitionAdded, p95", lambda r: scaled(r.get(0, "partition-signal/loopd/1", "p95"), 1e3),
         1, MS),
    Goal("the same, 200 partitions at once, p95", lambda r: scaled(r.get(0, "partition-signal/loopd/200"), 1e3),
         1, MS),
    Goal("activation: call to answer", lambda r: scaled(r.get(0, "start/loopd"), 1e3), 15, MS),
    Goal("activation, 2000 devices", lambda r: scaled(r.get(2000, "start/loopd"), 1e3), 60, MS),
    Goal("memory, idle", lambda r: scaled(r.get(0, "memory/loopd", "figure-memory"), 1 / 1024 / 1024), 6, MIB),
    Goal("memory for each device more", memory_for_each, 2, KIB),
    Goal("memory more after 100,000 attach–remove cycles than after 50,000", growth, 64, KIB),
    Goal("wake-ups in 60 s, idle", lambda r: r.get(0, "idle/loopd", "figure-wake-ups"), 0, ""),
    Goal("a stranger's call during 64 slow operations, p99",
         lambda r: scaled(r.get(0, "stranger/loopd/64-removals"), 1e3), 2, MS),
]


def number(value):
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def time_text(value):
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{number(value * factor)} {unit}"
    return f"{number(value * 1e6)} µs"


def table(header, rows):
    """Markdown that is legible as it is."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    line = lambda cells: "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths)) + " |"
    return "\n".join([line(header), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, rows)])


def goals_table(results, alone):
    rows = []
    for goal in GOALS:
        value, value_alone = goal.value(results), goal.value(alone)
        if value is None:
            continue
        text = lambda v: "" if v is None else f"{number(v)} {goal.unit}".strip()
        sign = "≥" if goal.unit == FASTER else "≤"
        rows.append([goal.what, f"{sign} {goal.limit:g} {goal.unit}".strip(), text(value),
                     "yes" if goal.reached(value) else "no", text(value_alone)])
    return table(["what", "goal", "measured", "reached", "without UDisks2"], rows)


def figures_table(results, alone):
    columns = [(f"{population} devices", results, population) for population in results.populations()]
    columns.insert(1, ("0, without UDisks2", alone, 0))
    names = sorted({name for _, source, population in columns for name in source.by_population.get(population, {})
                    if source.get(population, name, "p50") > 0})
    rows = []
    for name in names:
        row = [name]
        for _, source, population in columns:
            p50, p95 = (source.get(population, name, figure) for figure in ("p50", "p95"))
            row.append("" if p50 is None else f"{time_text(p50)} ({time_text(p95)})")
        rows.append(row)
    return table(["p50 (p95)", *[header for header, _, _ in columns]], rows)


PLOTS = {
    "attach": ("Attach, by devices that are attached", ["attach/udisks", "attach/losetup-command",
                                                       "attach/loopctl-command", "attach/loopd", "attach/bare"]),
    "detach": ("Detach, node kept", ["detach/udisks", "detach/losetup-command", "detach/loopctl-command",
                                     "detach/loopd", "detach/bare"]),
    "queries": ("Questions", ["list-all/udisks", "list-all/loopd", "property/udisks", "property/loopd",
                              "round-trip/loopd"]),
}


def plot(results, directory):
    """Medians as columns, the 95th percentiles as whiskers, by gnuplot."""
    populations = results.populations()
    for stem, (title, names) in PLOTS.items():
        names = [name for name in names if any(results.get(p, name) for p in populations)]
        if not names:
            continue
        script = [
            "set terminal svg size 800,420 font 'sans-serif,13' background rgb 'white'",
            f"set output '{directory / (stem + '.svg')}'", f"set title '{title}'", "set logscale y",
            "set ylabel 'ms, p50 and p95'", "set grid ytics", "set style data histograms",
            "set style histogram errorbars gap 1.5 linewidth 1", "set style fill solid 0.8", "set key outside",
            "set xlabel 'devices attached'"]
        columns = [f"$d{i} using 2:3:4:xtic(1) title '{name}'" for i, name in enumerate(names)]
        for i, name in enumerate(names):
            script.append(f"$d{i} << E")
            for population in populations:
                p50, p95 = (results.get(population, name, figure) for figure in ("p50", "p95"))
                known = p50 is not None
                script.append(f"{population} " + (f"{p50 * 1e3} {p50 * 1e3} {p95 * 1e3}" if known else "NaN NaN NaN"))
            script.append("E")
        script.append("plot " + ", ".join(columns))
        subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)


def report(runs, alone_run, output):
    """Writes results.json, results.md and the plots. `alone_run`: without UDisks2, which hears of all that is done.
    The exit status: 1 if something could not be measured."""
    results, alone = Results(), Results()
    for run in runs:
        results.read(run)
    alone.read(alone_run)
    output.mkdir(parents=True, exist_ok=True)
    document = {"machine": results.machine, "devices": results.by_population,
                "without-udisks": alone.by_population}
    (output / "results.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    plot(results, output)
    text = goals_table(results, alone) + "\n\n" + figures_table(results, alone) + "\n"
    (output / "results.md").write_text(text)
    print(text)
    failed = results.failed + alone.failed
    for failure in failed:
        print(f"bench: failed: {failure}", file=sys.stderr)
    return 1 if failed else 0
