"""Writes what was measured: JSON, a table for each row, and curves."""
import json

from .machine import DISTURBED_SHARE
from .plot import svg

HEADINGS = {
    "wall_s": ("time", "s", 3), "cpu_s": ("CPU", "s", 2), "user_s": ("user", "s", 2), "system_s": ("system", "s", 2),
    "rss_mib": ("memory", "MiB", 0), "origin_mib": ("sent by servers", "MiB", 0), "waste": ("waste", "of the size", 4),
    "gb_per_s": ("throughput", "GB/s", 2), "requests_per_s": ("rate", "requests/s", 0), "cpu_us": ("CPU of the server", "µs/request", 1),
    "cpu_s_per_gb": ("CPU of the server", "s/GB", 3), "p50_ms": ("p50", "ms", 2), "p99_ms": ("p99", "ms", 2),
    "mib_per_s": ("rate", "MiB/s", 0), "beyond_sync_ms": ("p99 beyond that of a sync", "ms", 2),
    "first_byte_ms": ("first byte", "ms", 1), "beyond_s": ("beyond the ideal", "s", 2),
}

UNITS = {"s": "s", "ms": "ms", "us": "µs/request", "mib": "MiB"}


def number(value, digits):
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}"


def heading(metric):
    if metric in HEADINGS:
        name, unit, _ = HEADINGS[metric]
        return f"{name} ({unit})"
    # What only one row has carries its unit in its name.
    words, last = metric.rsplit("_", 1) if "_" in metric else (metric, "")
    unit = UNITS.get(last)
    return f"{words.replace('_', ' ')} ({unit})" if unit else metric.replace("_", " ")


def cell(row, contestant, metric):
    figures = [sample[metric] for sample in row["samples"][contestant] if sample and metric in sample]
    if not figures:
        return "–"
    digits = HEADINGS.get(metric, ("", "", 2))[2]
    text = number(row["medians"][contestant][metric], digits)
    low, high = number(min(figures), digits), number(max(figures), digits)
    # The spread of the figure that a row is about; in every column it would hide the medians.
    return f"{text} ({low}–{high})" if metric == row["columns"][0] and low != high else text


def columns_of(row):
    return [metric for metric in row["columns"] if any(metric in medians for medians in row["medians"].values())]


def verdict(ratio):
    if ratio["hit"] is None:
        return "" if ratio["at_most"] is None and ratio["at_least"] is None else "not measured"
    return "met" if ratio["hit"] else "**missed**"


def target(ratio):
    return " ".join(f"{sign} {ratio[key]:,g}" for sign, key in (("≤", "at_most"), ("≥", "at_least")) if ratio[key] is not None)


def row_text(row):
    lines = [f"## {row['name']}: {row['title']}", ""]
    settings = "; ".join(f"{name} {value}" for name, value in row["settings"].items())
    rounds = max((len(samples) for samples in row["samples"].values()), default=0)
    if rounds:
        quick = " Measured with `--quick`." if row["quick"] else ""
        lines += [f"{settings}. {rounds} rounds, medians; of the first column also the lowest and the highest.{quick}", ""]
        if row["busy_before"] > DISTURBED_SHARE:
            lines += [f"**Other work used {row['busy_before']:.0%} of the processors before this row.**", ""]
        columns = columns_of(row)
        lines += ["| | " + " | ".join(map(heading, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
        for contestant in row["samples"]:
            cells = " | ".join(cell(row, contestant, metric) for metric in columns)
            lines.append(f"| {contestant} | {cells} |")
        lines.append("")
    if row["ratios"]:
        lines += ["| ddm's | measured | target | |", "|---|---|---|---|"]
        lines += [f"| {ratio['text']} | {number(ratio['value'], 2)} | {target(ratio)} | {verdict(ratio)} |" for ratio in row["ratios"]]
        lines.append("")
    for curve in row["curves"]:
        lines += [f"![{curve['title']}](results/{curve['file']})" if "file" in curve else curve["title"], ""]
        lines += [f"| {curve['x']} | " + " | ".join(curve["series"]) + " |", "|---" * (len(curve["series"]) + 1) + "|"]
        for x in sorted({x for points in curve["series"].values() for x, _ in points}):
            values = [dict(map(tuple, points)).get(x) for points in curve["series"].values()]
            lines.append(f"| {x:,g} | " + " | ".join(number(value, 2) for value in values) + " |")
        lines.append("")
    if row["missing"]:
        lines += [f"Missing here: {', '.join(row['missing'])}.", ""]
    for name, failures in row["failures"].items():
        lines += [f"{name} failed {len(failures)} times: {failures[-1]}", ""]
    lines += [line for note in row["notes"] for line in (note, "")]
    commands = [f"- {name}: `{how}`" for name, how in row["how"].items() if how]
    return "\n".join(lines + commands + ([""] if commands else []))


def print_row(row):
    print(row_text(row), flush=True)


def limits(run):
    machine, found = run["machine"], []
    busy = max(row["busy_before"] for row in run["rows"])
    if busy > DISTURBED_SHARE:
        found.append(f"**Other work used up to {busy:.0%} of the processors before a row. Rows that say so do not describe an idle machine.**")
    found.append(f"Servers, clients and load generators share {machine['cores']} cores and the loopback interface: no network is measured.")
    if machine["virtual"]:
        found.append("The machine is virtual: what its neighbours do is not seen.")
    if run["missing"]:
        found.append("Missing: " + "; ".join(f"{name} ({reason})" for name, reason in run["missing"].items()) + ".")
    return found


def text(run):
    machine = run["machine"]
    command = " ".join(["benchmarks/run", *run["arguments"]])
    lines = ["# Results", "", f"Written by `{command}`, begun {run['started']}. It keeps rows that earlier runs of the same day measured.", ""]
    lines += [f"- {limit}" for limit in limits(run)]
    lines += ["", "| | |", "|---|---|"]
    names = {
        "processor": "processor", "cores": "cores", "sha_instructions": "SHA instructions", "memory_gib": "memory (GiB)", "kernel": "kernel",
        "distribution": "distribution", "open_files": "open files", "tcp_congestion": "TCP congestion control", 
    }
    lines += [f"| {label} | {machine[key]} |" for key, label in names.items()]
    lines += [f"| {tool} | {version} |" for tool, version in sorted(run["versions"].items())]
    lines += ["", "*Met* and *missed* compare with the project's targets. Figures of different runs are comparable only as ratios.", ""]
    return "\n".join(lines) + "\n" + "\n".join(row_text(row) for row in run["rows"])


def merge_earlier(path, run):
    """Adds what earlier runs of the same day measured, so that rows can be measured one by one."""
    if not path.exists():
        return
    earlier = json.loads(path.read_text())
    rows = {row["name"]: row for row in earlier["rows"] + run["rows"]}
    order = [row["name"] for row in run["rows"]] + [row["name"] for row in earlier["rows"]]
    run["rows"] = [rows[name] for name in dict.fromkeys(order)]
    run["versions"] = {**earlier["versions"], **run["versions"]}


def write(folder, run):
    """Writes RESULTS.md, and JSON and curves named after the day and the machine."""
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    stem = f"{run['started'][:10]}-{run['machine']['host']}"
    merge_earlier(results / f"{stem}.json", run)
    # First what was measured: whatever goes wrong afterwards, it is there.
    (results / f"{stem}.json").write_text(json.dumps(run, indent=1, default=str) + "\n")
    for row in run["rows"]:
        for n, curve in enumerate(row["curves"]):
            curve["file"] = f"{stem}-{row['name']}-{n}.svg"
            (results / curve["file"]).write_text(svg(curve))
    (folder / "RESULTS.md").write_text(text(run))
    print(f"Wrote {folder / 'RESULTS.md'} and {results / stem}.json")
