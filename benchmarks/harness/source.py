"""A published file and where to take it from, for the tools that download it."""
import hashlib
import shutil

from .command import Failed


class Source:
    """One file on several servers, and the path that a tool writes to."""

    def __init__(self, system, plain, file, out):
        self.system, self.plain, self.file, self.out = system, plain, file, out
        details = system.details(file)
        self.urls = [place["url"] for place in details["locations"]]
        self.token = details["download"]["token"]
        self.header = f"Authorization: Bearer {self.token}"
        self.size = plain.stat().st_size
        self.sha256 = sha256_of(plain)

    def clear(self):
        """Removes what a download left."""
        for path in self.out.parent.glob(self.out.name + "*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def check(self):
        if not self.out.is_file() or sha256_of(self.out) != self.sha256:
            raise Failed("wrong bytes")


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(contestants, source, counted=True):
    """Has each contestant start without an earlier output, and compares the output outside of what is measured."""

    def wrap(run):
        def verified_run():
            source.clear()
            before = source.system.content_bytes() if counted else 0
            sample = run()
            source.check()
            if counted:
                sent = source.system.content_bytes() - before
                sample["origin_mib"], sample["waste"] = sent / 1048576, sent / source.size - 1
            source.clear()
            return sample

        return verified_run

    for contestant in contestants:
        contestant.run = wrap(contestant.run)
    return contestants
