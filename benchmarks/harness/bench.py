"""Everything that a row measures with: programs, tools, folders and sizes."""
import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from . import machine
from .command import Failed


class Bench:
    """The settings of one run."""

    def __init__(self, programs, rounds, quick, memory, disk):
        self.programs, self.rounds, self.quick = Path(programs).resolve(), rounds, quick
        self.memory, self.disk = Path(memory), Path(disk)
        self.tools, self.versions, self.missing = {}, {}, {}

    def add_tool(self, name, tool):
        """Records the version of a tool, or why it is missing."""
        try:
            if hasattr(tool, "prepare"):
                tool.prepare()
            self.versions[name] = tool.version(self.programs) if name == "ddm" else tool.version()
            self.tools[name] = tool
        except (Failed, OSError, IndexError, subprocess.SubprocessError) as error:
            self.missing[name] = str(error)[:200]
            print(f"missing: {name}: {self.missing[name]}", flush=True)

    def has(self, row, name):
        """Returns true if a tool is there; else the row's report says that it is missing."""
        if name in self.tools:
            return True
        row.missing.append(name)
        return False

    def size(self, full, quick):
        return quick if self.quick else full

    def folder(self, durable):
        """A folder on the disk, or in memory, that is removed with what is in it."""
        return scratch(self.disk if durable else self.memory)

    def memory_folder(self):
        return self.folder(False)

    def file_system(self, durable):
        return machine.file_system(self.disk if durable else self.memory)

    def memory_file_system(self):
        return self.file_system(False)

    def random_file(self, path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as out:
            left = size
            while left:
                left -= out.write(os.urandom(min(left, 4 << 20)))
            os.fsync(out.fileno())
        return path


@contextlib.contextmanager
def scratch(parent):
    with tempfile.TemporaryDirectory(prefix="ddm-bench-", dir=parent) as folder:
        # nginx's workers may run as another user.
        os.chmod(folder, 0o755)
        yield Path(folder)
