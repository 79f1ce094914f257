"""The memory of blocks does not grow with them: large cuts, and a thousand open keys, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
PROGRAM = """
import tempfile
from pathlib import Path
import msgspec
from collector.archive.compression import Compression, Packing
from collector.archive.decoders import PlainJson
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.parquet import Parquet
from collector.archive.rows import Reading
from collector.decoding.identity import Incarnation
from collector.model import Delivery
from collector.archive.formats import About

def peak():
    status = Path("/proc/self/status").read_text()  # getrusage has the peak of the process that forked, too
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

class Out:
    size = 0
    def write(self, data):
        self.size += len(data)

form, keys, rounds = {form}, {keys}, {rounds}
words = [("word%d " % n) * 40 for n in range(997)]
reading = Reading(PlainJson(Incarnation("a", "b")), Incarnation("a", "b"))
writers = [form.open(Out()) for _ in range(keys)]
base = peak()
sequence = 0
for round in range(rounds):
    for writer in writers:
        received = []
        for _ in range(250):
            sequence += 1
            body = msgspec.json.encode({{"n": sequence, "text": words[sequence * 7 % 997]}})
            received.append(Delivery("a.b", "", body, b"", "a", sequence, 1, sequence))
        writer.write(reading.read(received).rows)
for writer in writers:
    writer.finish(About("a", 1, 1, sequence))
print(peak(), base)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("form", "keys", "rounds", "most"),
    [
        ("Ndjson(Packing(Compression.ZSTD))", 1, 500, 96),
        ("Parquet(spool=tempfile.TemporaryFile)", 1, 500, 160),
        ("Ndjson(Packing(Compression.GZIP))", 1000, 1, 256),
        ("Parquet()", 1000, 1, 256),
    ],
)
def test_memory_is_bounded(form: str, keys: int, rounds: int, most: int) -> None:
    program = PROGRAM.format(form=form, keys=keys, rounds=rounds)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=170, cwd=ROOT
    )
    peak, base = map(int, ended.stdout.split())
    assert peak < most * MIB, f"{peak // MIB} MiB, {base // MIB} MiB of them before the first row"
