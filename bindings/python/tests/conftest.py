"""The world that the tests run against: `suite-server`, told apart by nothing from what other languages get."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class World:
    origin: str
    token: str
    token_all: str


def server() -> list[str]:
    """The command that runs a world."""
    named = os.environ.get("DRAGONFLY_SUITE_SERVER")
    return [named] if named else ["cargo", "run", "-q", "-p", "dragonfly-suite", "--bin", "suite-server"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with subprocess.Popen(server(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        told = {}
        for line in process.stdout:
            key, _, value = line.strip().partition(" ")
            if key == "ready":
                break
            told[key] = value
        yield World(told["origin"], told["token"], told["token_all"])
        process.stdin.close()
        process.wait(60)
