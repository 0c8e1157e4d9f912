"""Publishing a file with a quorum of two, beside copying, hashing and syncing it by hand."""
from harness.command import Failed, run, wait_until
from harness.ddm import System, request
from harness.rounds import Contestant, Ratio, Row

ROWS = {"publish": "Publishing with two synced replicas acknowledged, on a disk"}
TOOLS = ["coreutils"]


def measure(bench, name):
    mib = bench.size(1024, 256)
    row = Row(name, ROWS[name], settings={"file": f"{mib} MiB on {bench.file_system(True)}", "quorum": 2})
    row.columns = ["wall_s", "cpu_s", "user_s", "system_s", "rss_mib"]
    with bench.folder(True) as folder, System(bench.programs, folder / "ddm", 2) as system:
        plain = bench.random_file(folder / "plain", mib << 20)
        contestants = [publisher(system, plain)]
        if bench.has(row, "coreutils"):
            contestants += [synced_before(one, folder / "copy") for one in bench.tools["coreutils"].copies(plain, folder / "copy")]
        row.contest(contestants, bench.rounds)
    row.compare(Ratio("time, of cp + openssl dgst + sync", "wall_s", "ddm-client publish", "cp + openssl + sync", at_most=2.0))
    row.compare(Ratio("time, of the bound's (two synced copies)", "wall_s", "ddm-client publish", "bound: two copies, synced"))
    row.notes.append("The CPU time of `ddm-client publish` is the client's; the servers' is not in it.")
    return row


def settle():
    """Writes what earlier runs left, so that nobody pays for it."""
    run(["sync"])


def synced_before(contestant, copy):
    measured = contestant.run

    def run_once():
        settle()
        try:
            return measured()
        finally:
            for path in copy.parent.glob(copy.name + "*"):
                path.unlink()

    contestant.run = run_once
    return contestant


def publisher(system, plain):
    command = [system.programs / "ddm-client", "publish", "--again", "--quorum", 2, "--replicas", 2, plain]

    def run_once():
        settle()
        sample = run(command, env=system.client_env)
        published = system.get("/v1/files?limit=1")["files"][0]
        if published["state"] != "available" or published["live_replicas"] < 2:
            raise Failed(f"published as {published['state']} with {published['live_replicas']} replicas")
        system.client("verify", "--id", published["id"], plain)
        request(system.info_address, "DELETE", f"/v1/files/{published['id']}", system.session)
        blobs = [system.folder / f"server-{n}" for n in range(2)]
        large = lambda: [path for folder in blobs for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 64 << 20]
        wait_until("the replicas are removed", lambda: not large(), timeout=120)
        return sample

    return Contestant("ddm-client publish", run_once, "ddm-client publish --quorum 2 FILE")
