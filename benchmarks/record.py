"""Puts what commands print into the documentation, so that no number there is typed by hand.

    python benchmarks/record.py docs/benchmarks.md                # every measured block anew
    python benchmarks/record.py docs/benchmarks.md kd_loss decode # those whose command holds one of these words

A block begins with `<!-- measured: COMMAND -->` and ends with `<!-- end -->`. The command is run in the repository's
root; what it prints in Markdown, tables and lists, replaces what stands between of the same kind of machine, with date
and revision; what was measured on others stays. Other load on the machine falsifies seconds: let it rest.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nemo_distill.storage.files import whole_file
from nemo_distill.storage.made_with import made_with, short_revision

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- measured: (?P<command>.+?) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)
MACHINE = re.compile(r"^\d{4}-\d\d-\d\d, (?P<device>.+), revision \w+\+?\.$", re.MULTILINE)
MARKDOWN = ("| ", "- ", "> ")


def measured(command: str) -> dict[str, str]:
    """Runs a command and returns its tables, and what they were made with, by the machine's name."""
    record = made_with("cpu", 0)
    print(f"\n{command}\n", flush=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # so that `python` is this one
    environment = {**os.environ, "PATH": path}
    with subprocess.Popen(
        ["bash", "-c", command], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        raise SystemExit(f"'{command}' ended with code {process.returncode}; its block stays as it was.")
    shown = apart([line for line in lines if line.startswith(MARKDOWN)])
    if not shown:
        raise SystemExit(f"'{command}' printed neither a table nor a list; its block stays as it was.")
    revision = short_revision(record["git_revision"])
    return {record["device"]: f"{record['date'][:10]}, {record['device']}, revision {revision}.\n\n{shown}"}


def apart(lines: Sequence[str]) -> str:
    """Joins lines of Markdown, with an empty one between what would else be one table or list."""
    blocks: list[list[str]] = []
    for line, after in zip(lines, [*lines[1:], ""]):
        if not blocks or after.startswith("| ---") or line[:2] != blocks[-1][-1][:2]:
            blocks.append([])
        blocks[-1].append(line)
    return "\n\n".join("\n".join(block) for block in blocks)


def by_machine(text: str) -> dict[str, str]:
    """Returns what a block holds of each machine, by the machine's name."""
    found = list(MACHINE.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return {match["device"]: text[match.start() : end].strip() for match, end in zip(found, ends)}


def renewed(block: re.Match[str], new: dict[str, str]) -> str:
    """Returns a block that holds what is new of one machine, after what it held of others."""
    tables = {device: text for device, text in by_machine(block["body"]).items() if device not in new} | new
    parts = [f"```\n{block['command']}\n```", *tables.values()]
    return block[1] + "\n\n".join(parts) + "\n" + block[4]


def _renewed_if(command: str, new: dict[str, str], block: re.Match[str]) -> str:
    return renewed(block, new) if block["command"] == command else block[0]


def renew(page: Path, words: Sequence[str]) -> None:
    """Renews the blocks of a page whose command holds one of the words; all, where there are none."""
    text = page.read_text(encoding="utf-8")
    commands = [block["command"] for block in BLOCK.finditer(text)]
    chosen = [command for command in commands if not words or any(word in command for word in words)]
    if not chosen:
        raise SystemExit(f"{page}: no block's command holds {' or '.join(words) or 'anything'}; there are {commands}.")
    for command in chosen:
        new = measured(command)
        text = BLOCK.sub(partial(_renewed_if, command, new), page.read_text(encoding="utf-8"))  # as it is by now
        with whole_file(page) as stream:
            stream.write(text.encode())


if __name__ == "__main__":
    renew(Path(sys.argv[1]), sys.argv[2:])
