"""Time from the command to the first byte of content on standard output."""
from harness.ddm import System
from harness.rounds import Ratio, Row
from harness.source import Source

ROWS = {"first-byte": "Time from the command to the first byte on standard output, with a stored log-in"}
TOOLS = ["curl", "wget"]


def measure(bench, name):
    row = Row(name, ROWS[name], settings={"file": f"16 MiB on {bench.memory_file_system()}"})
    row.columns = ["first_byte_ms", "wall_s", "cpu_s"]
    with bench.memory_folder() as folder, System(bench.programs, folder / "ddm", 3) as system:
        plain = bench.random_file(folder / "plain", 16 << 20)
        source = Source(system, plain, system.publish(plain, 3), folder / "out")
        contestants = bench.tools["ddm"].first_bytes(source)
        for tool in TOOLS:
            if bench.has(row, tool):
                contestants += bench.tools[tool].first_bytes(source)
        # Each takes milliseconds: more rounds cost nothing.
        row.contest(contestants, bench.rounds * 4)
        system.client("get", "-q", "-f", "-o", source.out, source.file)
        source.check()
    row.compare(Ratio("first byte in ms", "first_byte_ms", "ddm-client", at_most=40))
    row.compare(Ratio("first byte, of curl's with a token at hand", "first_byte_ms", "ddm-client", "curl"))
    row.notes.append(
        "`ddm-client` asks the info-server for places and a token first, which a broker-less system commits and syncs, and prints no byte before"
        " its chunk of 1 MiB is verified; the others print what the first packet holds."
    )
    return row
